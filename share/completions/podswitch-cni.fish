# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_podswitch_cni_global_optspecs
    string join \n h/help V/version
end

function __fish_podswitch_cni_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_podswitch_cni_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_podswitch_cni_using_subcommand
    set -l cmd (__fish_podswitch_cni_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -s h -l help -d 'Print help'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -s V -l version -d 'Print version'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "install" -d 'Put this program and its configuration where container runtimes look for them'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "uninstall" -d 'Remove both again'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "conflist" -d 'Print the configuration'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "doctor" -d 'Say what a container runtime on this node would find, and what it lacks'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch-cni -n "__fish_podswitch_cni_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l bin-dir -d 'Where runtimes look for plugins; containerd of Debian looks in /usr/lib/cni' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l conf-dir -d 'Where runtimes look for configurations' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l name -d 'Name of the network' -r
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l cni-version -d 'Version of the CNI specification that is spoken; every plugin of the chain must know it' -r
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l socket -d 'Where the switch listens' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l chain -d 'A plugin behind this one; give it once for each, and `--chain=` for none' -r -f -a "portmap\t'hostPorts, by translation on the host'
tuning\t'Sysctls and the Ethernet address of the interface'
firewall\t'Lets pods through a FORWARD chain whose policy is DROP'"
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -l sticky -d 'A pod of the same namespace and name gets its earlier addresses again'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand uninstall" -l bin-dir -d 'Where runtimes look for plugins; containerd of Debian looks in /usr/lib/cni' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand uninstall" -l conf-dir -d 'Where runtimes look for configurations' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -l name -d 'Name of the network' -r
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -l cni-version -d 'Version of the CNI specification that is spoken; every plugin of the chain must know it' -r
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -l socket -d 'Where the switch listens' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -l chain -d 'A plugin behind this one; give it once for each, and `--chain=` for none' -r -f -a "portmap\t'hostPorts, by translation on the host'
tuning\t'Sysctls and the Ethernet address of the interface'
firewall\t'Lets pods through a FORWARD chain whose policy is DROP'"
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -l sticky -d 'A pod of the same namespace and name gets its earlier addresses again'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand conflist" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand doctor" -l bin-dir -d 'Where runtimes look for plugins; containerd of Debian looks in /usr/lib/cni' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand doctor" -l conf-dir -d 'Where runtimes look for configurations' -r -F
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand completions" -s h -l help -d 'Print help'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand man" -s h -l help -d 'Print help'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "install" -d 'Put this program and its configuration where container runtimes look for them'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "uninstall" -d 'Remove both again'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "conflist" -d 'Print the configuration'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "doctor" -d 'Say what a container runtime on this node would find, and what it lacks'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch-cni -n "__fish_podswitch_cni_using_subcommand help; and not __fish_seen_subcommand_from install uninstall conflist doctor completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
