# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_podswitch_global_optspecs
    string join \n socket= log-level= h/help V/version
end

function __fish_podswitch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_podswitch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_podswitch_using_subcommand
    set -l cmd (__fish_podswitch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c podswitch -n "__fish_podswitch_needs_command" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_needs_command" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_needs_command" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_needs_command" -s V -l version -d 'Print version'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "run" -d 'Run a switch until it is stopped'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "attach" -d 'Join a pod\'s namespace to the switch'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "detach" -d 'Take a pod off, and the routes to it'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "route" -d 'Add and delete routes'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "neighbor" -d 'Add, delete and list neighbours: other nodes and the subnets of their pods'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "show" -d 'Show ports, routes, endpoints, counters or the switch itself'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "trace" -d 'Show packets, what each stage of the path saw of them and decided'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "doctor" -d 'Say what this machine gives a switch and what it lacks'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "stop" -d 'End the switch; pods\' interfaces and routes stay for the next start'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "purge" -d 'Remove all a switch ever made, whether it runs or is dead'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch -n "__fish_podswitch_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l config -d 'Configuration file; flags override its keys one by one' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l pod-range -d 'Addresses of this node\'s pods; give it once for each range' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l reserve -d 'Addresses that pods get only by asking: a prefix, FIRST-LAST or one address; give it once for each' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l masquerade -d 'Hide pods behind the node\'s own address where they speak to others than the cluster\'s networks' -r -f -a "true\t''
false\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l cluster-network -d 'A network of the cluster, to which pods are not hidden; give it once for each [default: the pod ranges]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l router-address -d 'The switch\'s own address, one for each family or range [default: the first of each pod range]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l mtu -d 'MTU of pods that do not ask for another: 576 to 65521, with IPv6 from 1280 [default: what tunnels leave, or 1500]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l host-port -d 'Name of the interface between the switch and the host [default: podswitch0]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l underlay-address -d 'This node\'s own address towards other nodes; give it once for each family [default: none, and no tunnels]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l tunnel -d 'A tunnel that ends here: vxlan or udp; give it once for each [default: vxlan, with an underlay address]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l vxlan-vni -d 'Number of the VXLAN segment [default: 1]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l vxlan-port -d 'UDP port of VXLAN, here and at other nodes [default: 8472]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l vtep-mac -d 'Ethernet address of VXLAN\'s end here [default: made from the first underlay address]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l udp-port -d 'UDP port of the udp tunnel, here and at other nodes [default: 8285]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l cut-super-frames -d 'Cut super-frames for other nodes here instead of leaving it to the kernel [default: false]' -r -f -a "true\t''
false\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l state-dir -l state -d 'Where the switch keeps what it was asked for [default: /run/podswitch]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l poll -d 'What workers do when there is nothing to do: adaptive, spin or sleep [default: adaptive]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l spin-us -d 'How long adaptive workers spin before they sleep, in microseconds [default: 50]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l worker-cpu -d 'CPUs of the workers, one worker each; give it once for each [default: all it may use, in spin mode the last]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l pipeline -d 'Three threads carry the packets, on the first three of the workers\' CPUs; for rigs with cores to spare' -r -f -a "true\t''
false\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l strict-mac -d 'Drop pods\' frames that carry another Ethernet address than their own' -r -f -a "true\t''
false\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l sweep-seconds -d 'Seconds an endpoint may outlive its namespace before it is detached [default: 10]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l metrics-address -d 'Where metrics and health are served over TCP too, on loopback, such as 127.0.0.1:9470 [default: nowhere]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand run" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l netns -d 'The pod\'s namespace: a path, or a name of `ip netns`' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l ifname -d 'The interface to make there' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l address -d 'An address of the pod; give it once for each' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l mtu -d 'MTU of the interface [default: the switch\'s]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l mac -d 'Ethernet address of the interface [default: made from the first address]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l ingress-rate -d 'Most bits a second to the pod, such as 100M' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l ingress-burst -d 'Bits to the pod at once after a pause [default: 10 ms of the rate]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l egress-rate -d 'Most bits a second from the pod' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l egress-burst -d 'Bits from the pod at once after a pause [default: 10 ms of the rate]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -l json -d 'Print JSON'
complete -c podswitch -n "__fish_podswitch_using_subcommand attach" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand detach" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand detach" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand detach" -l force -d 'Also if another origin made it or has routes to it'
complete -c podswitch -n "__fish_podswitch_using_subcommand detach" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -f -a "add" -d 'Add a route, or change the target of one added here before'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -f -a "del" -d 'Delete a route'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and not __fish_seen_subcommand_from add del help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from add" -l to -d 'Where their packets go: endpoint:NAME, host, unreachable or blackhole' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from add" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from add" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from del" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from del" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from del" -l force -d 'Also if another origin asked for it'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from del" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add a route, or change the target of one added here before'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from help" -f -a "del" -d 'Delete a route'
complete -c podswitch -n "__fish_podswitch_using_subcommand route; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -f -a "add" -d 'Add a neighbour, or change one added here before; or many at once'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -f -a "delete" -d 'Delete a neighbour'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -f -a "del" -d 'Delete a neighbour'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -f -a "list" -d 'List neighbours, as `show neighbors` does'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and not __fish_seen_subcommand_from add delete del list help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l subnet -d 'The addresses of its pods' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l via -d 'The node\'s own address' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l backend -d 'How packets get there: vxlan, udp or host-gw' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l vtep-mac -d 'Ethernet address of the node\'s VTEP; vxlan needs it' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l origin -d 'In whose name' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l file -d 'Add those of a file of JSON instead, all or none; - is the standard input' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -l subnet -d 'The addresses of its pods' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -l origin -d 'In whose name' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -l force -d 'Also if another origin asked for it'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -l subnet -d 'The addresses of its pods' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -l origin -d 'In whose name' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -l force -d 'Also if another origin asked for it'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from del" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from list" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from list" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add a neighbour, or change one added here before; or many at once'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from help" -f -a "delete" -d 'Delete a neighbour'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from help" -f -a "list" -d 'List neighbours, as `show neighbors` does'
complete -c podswitch -n "__fish_podswitch_using_subcommand neighbor; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand show" -l watch -d 'Of ports: show rates again and again, every so many seconds [default: 2]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand show" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand show" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand show" -l json -d 'Print JSON'
complete -c podswitch -n "__fish_podswitch_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l port -d 'Only packets that enter or depart by this port' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l filter -d 'Only packets that come in like this, in the language of pcap-filter(7)' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l count -d 'End after this many packets' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l seconds -d 'End after this long; an hour at most' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l dropped -d 'Only packets that are dropped'
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -l json -d 'Print JSON, a line for each packet'
complete -c podswitch -n "__fish_podswitch_using_subcommand trace" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -l host-port -d 'The switch\'s interface on the host' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -l state-dir -l state -d 'Where the switch keeps, or would keep, what it was asked for' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -l json -d 'Print JSON'
complete -c podswitch -n "__fish_podswitch_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand stop" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand stop" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand stop" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l config -d 'Configuration file of the switch' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l state-dir -l state -d 'Where the switch keeps what it was asked for [default: /run/podswitch]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l host-port -d 'The switch\'s interface on the host [default: podswitch0]' -r
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -l yes -d 'Do not ask'
complete -c podswitch -n "__fish_podswitch_using_subcommand purge" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand completions" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand completions" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand completions" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand man" -l socket -d 'Control socket of the switch [default: /run/podswitch/control.sock]' -r -F
complete -c podswitch -n "__fish_podswitch_using_subcommand man" -l log-level -d 'How much the switch logs: off, error, warn, info, debug or trace' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c podswitch -n "__fish_podswitch_using_subcommand man" -s h -l help -d 'Print help'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "run" -d 'Run a switch until it is stopped'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "attach" -d 'Join a pod\'s namespace to the switch'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "detach" -d 'Take a pod off, and the routes to it'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "route" -d 'Add and delete routes'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "neighbor" -d 'Add, delete and list neighbours: other nodes and the subnets of their pods'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "show" -d 'Show ports, routes, endpoints, counters or the switch itself'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "trace" -d 'Show packets, what each stage of the path saw of them and decided'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "doctor" -d 'Say what this machine gives a switch and what it lacks'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "stop" -d 'End the switch; pods\' interfaces and routes stay for the next start'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "purge" -d 'Remove all a switch ever made, whether it runs or is dead'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "man" -d 'Write the manual pages into a directory'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and not __fish_seen_subcommand_from run attach detach route neighbor show trace doctor stop purge completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and __fish_seen_subcommand_from route" -f -a "add" -d 'Add a route, or change the target of one added here before'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and __fish_seen_subcommand_from route" -f -a "del" -d 'Delete a route'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and __fish_seen_subcommand_from neighbor" -f -a "add" -d 'Add a neighbour, or change one added here before; or many at once'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and __fish_seen_subcommand_from neighbor" -f -a "delete" -d 'Delete a neighbour'
complete -c podswitch -n "__fish_podswitch_using_subcommand help; and __fish_seen_subcommand_from neighbor" -f -a "list" -d 'List neighbours, as `show neighbors` does'
