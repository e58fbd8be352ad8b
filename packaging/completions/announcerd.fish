# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_announcerd_global_optspecs
    string join \n c/config= check v/verbose h/help V/version
end

function __fish_announcerd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_announcerd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_announcerd_using_subcommand
    set -l cmd (__fish_announcerd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c announcerd -n "__fish_announcerd_needs_command" -s c -l config -d 'The configuration' -r -F
complete -c announcerd -n "__fish_announcerd_needs_command" -l check -d 'Check the configuration, print every error in it, and exit'
complete -c announcerd -n "__fish_announcerd_needs_command" -s v -l verbose -d 'More in the log; twice: still more'
complete -c announcerd -n "__fish_announcerd_needs_command" -s h -l help -d 'Print help'
complete -c announcerd -n "__fish_announcerd_needs_command" -s V -l version -d 'Print version'
complete -c announcerd -n "__fish_announcerd_needs_command" -f -a "demo" -d 'Build a small lab in network namespaces, kill its primary, and watch'
complete -c announcerd -n "__fish_announcerd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c announcerd -n "__fish_announcerd_using_subcommand demo" -l exporter -d 'What tells the ISP of the standby\'s route' -r -f -a "builtin\t'announcerd itself, by BGP'
bird\t'BIRD 2 beside it'"
complete -c announcerd -n "__fish_announcerd_using_subcommand demo" -l isp -d 'What the ISP\'s router runs' -r -f -a "bird\t'BIRD 2'"
complete -c announcerd -n "__fish_announcerd_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c announcerd -n "__fish_announcerd_using_subcommand help; and not __fish_seen_subcommand_from demo help" -f -a "demo" -d 'Build a small lab in network namespaces, kill its primary, and watch'
complete -c announcerd -n "__fish_announcerd_using_subcommand help; and not __fish_seen_subcommand_from demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
