# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_announcerctl_global_optspecs
    string join \n control= c/config= h/help V/version
end

function __fish_announcerctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_announcerctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_announcerctl_using_subcommand
    set -l cmd (__fish_announcerctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c announcerctl -n "__fish_announcerctl_needs_command" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_needs_command" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_needs_command" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -s V -l version -d 'Print version'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "status" -d 'Instances, checks, peers and kernel objects on one screen'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "watch" -d 'The same, live, with the last results of each check; q ends it'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "explain" -d 'Why an instance is in its state, what would change it, and what it would do next'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "events" -d 'The decision journal: every transition with its cause and timeline'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "import-keepalived" -d 'Prints the announcer.toml that does what a keepalived.conf did, with a comment for what has no equivalent'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "force" -d 'Overrides the primary\'s verdict, never `require`; survives a restart of the daemon'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "auto" -d 'Ends an override: back to the ordinary rules'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "failback" -d 'Hands back to the primary now'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "maintenance" -d 'Drains everything gracefully, announcements of BACKUP too, until it is switched off; survives a restart'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "handover" -d 'Ends the daemon for an upgrade: kernel objects stay, and BGP peers keep the routes where graceful restart was negotiated'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "reload" -d 'Reads the configuration again, and answers with the errors or with what changed'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "drill" -d 'A failover exercise: pretends that the primary is down, verifies each step, hands back, and reports'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "backtest" -d 'Replays recorded probe results against thresholds: takeovers, false ones, detection times. Needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "record" -d 'Writes probe results from the running daemon, for `backtest`, until it is interrupted'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "convert" -d 'Makes a trace for `backtest` of a log of `fping -D -l` or `ping -D -O`. Needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "sweep" -d 'Removes every kernel object that carries our mark; needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand status" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand status" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand status" -s j -l json -d 'As JSON'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand watch" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand watch" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand watch" -l no-color -d 'Without colour'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand watch" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand explain" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand explain" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand explain" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -l since -d 'Only what was decided after that: an age as in 30m or 2d, or a date as in 2026-11-22T04:00:00Z' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -s f -l follow -d 'Go on with what happens from now'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -s j -l json -d 'One JSON object a line'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand events" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand import-keepalived" -s i -l config-id -d 'The node, as of keepalived\'s --config-id; without it: the host\'s name up to its first dot' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand import-keepalived" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand import-keepalived" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand import-keepalived" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand force" -l for -d 'For how long, as in 90s, 30m, 1h; without it: until `auto`' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand force" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand force" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand force" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand auto" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand auto" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand auto" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand failback" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand failback" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand failback" -l reset-flaps -d 'Forget the flaps that lengthen the failback delay'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand failback" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand maintenance" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand maintenance" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand maintenance" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand handover" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand handover" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand handover" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand reload" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand reload" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand reload" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand drill" -l hold -d 'How long to stay MASTER once everything is verified' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand drill" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand drill" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand drill" -l dry-run -d 'Only say what would be done, or why it would be refused'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand drill" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -s t -l trace -d 'The trace: TIME,CHECK,ok|error|blind,RTT[,up|down] a line; - is stdin' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -l instance -d 'Only this instance' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -l outage -d 'Without a truth in the trace: the primary was down where its checks had no success for this long' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -l sweep -d 'Try many thresholds, as in fall=2..8,rise=1..5,interval=500ms/1s' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -l svg -d 'Draw the trace and the states' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -s v -l verbose -d 'List every transition'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand backtest" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand record" -l check -d 'Only these checks' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand record" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand record" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand record" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand convert" -l name -d 'What a host\'s check is called; otherwise as the host' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand convert" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand convert" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand convert" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand sweep" -l protocol -d 'The mark: `[node] route_protocol`. Without it: what the configuration says' -r
complete -c announcerctl -n "__fish_announcerctl_using_subcommand sweep" -l control -d 'The daemon\'s control socket; without it: what the configuration says' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand sweep" -s c -l config -d 'The configuration that the daemon runs on' -r -F
complete -c announcerctl -n "__fish_announcerctl_using_subcommand sweep" -l force -d 'Also while a daemon runs (it will put back what it wants)'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand sweep" -s h -l help -d 'Print help'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "status" -d 'Instances, checks, peers and kernel objects on one screen'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "watch" -d 'The same, live, with the last results of each check; q ends it'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "explain" -d 'Why an instance is in its state, what would change it, and what it would do next'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "events" -d 'The decision journal: every transition with its cause and timeline'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "import-keepalived" -d 'Prints the announcer.toml that does what a keepalived.conf did, with a comment for what has no equivalent'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "force" -d 'Overrides the primary\'s verdict, never `require`; survives a restart of the daemon'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "auto" -d 'Ends an override: back to the ordinary rules'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "failback" -d 'Hands back to the primary now'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "maintenance" -d 'Drains everything gracefully, announcements of BACKUP too, until it is switched off; survives a restart'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "handover" -d 'Ends the daemon for an upgrade: kernel objects stay, and BGP peers keep the routes where graceful restart was negotiated'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "reload" -d 'Reads the configuration again, and answers with the errors or with what changed'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "drill" -d 'A failover exercise: pretends that the primary is down, verifies each step, hands back, and reports'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "backtest" -d 'Replays recorded probe results against thresholds: takeovers, false ones, detection times. Needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "record" -d 'Writes probe results from the running daemon, for `backtest`, until it is interrupted'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "convert" -d 'Makes a trace for `backtest` of a log of `fping -D -l` or `ping -D -O`. Needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "sweep" -d 'Removes every kernel object that carries our mark; needs no daemon'
complete -c announcerctl -n "__fish_announcerctl_using_subcommand help; and not __fish_seen_subcommand_from status watch explain events import-keepalived force auto failback maintenance handover reload drill backtest record convert sweep help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
