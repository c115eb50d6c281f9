# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_podswitch_agent_global_optspecs
    string join \n h/help V/version
end

function __fish_podswitch_agent_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_podswitch_agent_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_podswitch_agent_using_subcommand
    set -l cmd (__fish_podswitch_agent_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -s h -l help -d 'Print help'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -s V -l version -d 'Print version'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -f -a "run" -d 'Run the agent; it goes on until it is killed, and may be killed at any moment'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -f -a "status" -d 'Say how a running agent is doing'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch-agent -n "__fish_podswitch_agent_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand run" -l config -d 'The configuration' -r -F
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand run" -l log-level -d 'How much is logged: off, error, warn, info, debug or trace' -r
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand run" -s h -l help -d 'Print help'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand status" -l listen -d 'Where it serves health and metrics' -r
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand status" -l json -d 'Print JSON'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand status" -s h -l help -d 'Print help'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand completions" -s h -l help -d 'Print help'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand man" -s h -l help -d 'Print help'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand help; and not __fish_seen_subcommand_from run status completions man help" -f -a "run" -d 'Run the agent; it goes on until it is killed, and may be killed at any moment'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand help; and not __fish_seen_subcommand_from run status completions man help" -f -a "status" -d 'Say how a running agent is doing'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand help; and not __fish_seen_subcommand_from run status completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand help; and not __fish_seen_subcommand_from run status completions man help" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch-agent -n "__fish_podswitch_agent_using_subcommand help; and not __fish_seen_subcommand_from run status completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
