"""`bakeoff completion bash`: a script for the shell; the words after train, check and a sweep's name are completed by Hydra."""

from __future__ import annotations

from bakeoff.commands.arguments import CommandParser
from bakeoff.commands.main import COMMANDS
from bakeoff.errors import ConfigError, echo

SHELLS = ("bash", "zsh")

# Hydra's own script knows programs without commands: this one takes the command away before it asks Hydra.
SCRIPT = """_bakeoff() {
    local line=${COMP_LINE:0:$COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} words found number
    read -ra words <<< "$line"
    number=${#words[@]}
    [[ $line == *' ' ]] && word='' && number=$((number + 1)) || word=${words[-1]}
    COMPREPLY=()
    if (( number <= 2 )); then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$word"))
        return
    fi
    case ${words[1]}:$number in
        sweep:3|report:*)
            found=$(bakeoff list sweep 2>/dev/null | sed -n 's/^  \\([^ ]*\\).*/\\1/p');;
        train:*|check:*|sweep:*)
            local rest="${line#*${words[1]}}"
            [[ ${words[1]} == sweep ]] && rest=${rest#*${words[2]}}
            rest="train $rest"
            found=$(COMP_POINT=${#rest} COMP_LINE=$rest bakeoff train -sc query=bash 2>/dev/null);;
        show:3)
            found=$(bakeoff show 2>/dev/null | sed -n 's/^\\([a-z]*\\) .*/\\1/p');;
        schema:3)
            found="run sweep";;
        completion:3)
            found="@SHELLS@";;
        list:3)
            found=$(bakeoff list 2>/dev/null | grep -v '^ ');;
        list:4)
            found=$(bakeoff list "${words[2]}" 2>/dev/null | sed -n 's/^  \\([^ ]*\\).*/\\1/p');;
        reproduce:*|sync:*|ui:*|clean:*)
            found="tracking.uri= tracking.folder=";;
    esac
    COMPREPLY=($(compgen -W "$found" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _bakeoff bakeoff
"""


def main(argv: list[str]) -> int:
    """Print the script."""
    parser = CommandParser(prog="bakeoff completion", description=__doc__)
    parser.add_argument("shell", nargs="*", metavar="SHELL", help=" or ".join(SHELLS))
    shell = " ".join(parser.parse_args(argv).shell) or "bash"
    if shell not in SHELLS:
        raise ConfigError(f"{shell}: completion supports {', '.join(SHELLS)}")
    if shell == "zsh":
        echo("autoload -U +X bashcompinit && bashcompinit")
    echo(SCRIPT.replace("@COMMANDS@", " ".join(COMMANDS)).replace("@SHELLS@", " ".join(SHELLS)).rstrip())
    return 0
