"""`bakeoff completion bash`: a script for the shell; the words after `bakeoff train` and `bakeoff sweep` are completed by Hydra."""

from __future__ import annotations

from bakeoff.commands.main import COMMANDS
from bakeoff.errors import ConfigError, echo

SHELLS = ("bash", "zsh")

# Hydra's own script knows programs without commands: this one takes the command away before it asks Hydra.
SCRIPT = """_bakeoff() {
    local line=${COMP_LINE:0:$COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} words
    read -ra words <<< "$line"
    [[ $line == *' ' ]] && word='' || word=${words[-1]}
    if (( ${#words[@]} < 2 )) || { (( ${#words[@]} == 2 )) && [[ $line != *' ' ]]; }; then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$word"))
        return
    fi
    case ${words[1]} in
        train)
            local rest="train ${line#*train}" found
            found=$(COMP_POINT=${#rest} COMP_LINE=$rest bakeoff train -sc query=bash 2>/dev/null)
            COMPREPLY=($(compgen -o nospace -W "$found" -- "$word"));;
        sweep|report)
            COMPREPLY=($(compgen -W "$(bakeoff list sweep 2>/dev/null | sed -n 's/^  \\([^ ]*\\).*/\\1/p')" -- "$word"));;
        show)
            (( ${#words[@]} > 3 )) ||
                COMPREPLY=($(compgen -W "$(bakeoff show 2>/dev/null | sed -n 's/^\\([a-z]*\\) .*/\\1/p')" -- "$word"));;
        schema)
            COMPREPLY=($(compgen -W "run sweep" -- "$word"));;
        list)
            COMPREPLY=($(compgen -W "$(bakeoff list 2>/dev/null | grep -v '^ ')" -- "$word"));;
    esac
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _bakeoff bakeoff
"""


def main(argv: list[str]) -> int:
    """Print the script."""
    shell = " ".join(argv) or "bash"
    if shell not in SHELLS:
        raise ConfigError(f"{shell}: completion is there for {', '.join(SHELLS)}")
    if shell == "zsh":
        echo("autoload -U +X bashcompinit && bashcompinit")
    echo(SCRIPT.replace("@COMMANDS@", " ".join(COMMANDS)).rstrip())
    return 0
