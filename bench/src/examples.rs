//! What the help of each command ends with; each line that is a command is read by a test.

pub(crate) const EXAMPLES: &str = "Examples:
  podswitch-bench demo
  podswitch-bench local --rounds 5 --json > local.json";

pub(crate) const DEMO_EXAMPLES: &str = "Examples:
  podswitch-bench demo
  podswitch-bench demo --seconds 5 --json
  podswitch-bench demo --nodes 2 --backend host-gw
  podswitch-bench demo --nodes 3 --store etcd --backend vxlan

The exit status is 0 only if every check passed.";

pub(crate) const LOCAL_EXAMPLES: &str = "Examples:
  podswitch-bench local
  podswitch-bench local --rounds 9 --seconds 3 --cases '0|0,0|1' --switch-cpu 1
  podswitch-bench local --peers kernel-route --metrics tcp1_gbps,cpu_s_per_gb
  podswitch-bench local --metrics udp64_flows_pps --flows 256 --json
  podswitch-bench local --metrics probe0_p50_us,cpu_s_per_gb --switch-config 'poll=\"spin\"'
  podswitch-bench local --metrics tcp1_gbps,rtt_p50_us --pods 2,10,100,1000 --peers

A ratio is ours / peer, formed round by round; a tie is a ratio whose quartiles straddle 1.";

pub(crate) const VXLAN_EXAMPLES: &str = "Examples:
  podswitch-bench vxlan
  podswitch-bench vxlan --underlay-offloads no-segmentation --metrics tcp1_gbps,cpu_s_per_gb
  podswitch-bench vxlan --family 6 --underlay 6 --mtu 9000 --json
  podswitch-bench vxlan --loss 1 --peers kernel-vxlan --metrics tcp4_gbps
  podswitch-bench vxlan --subject kernel-vxlan --peers udp-forwarder --rounds 3

A ratio is ours / peer, formed round by round; a tie is a ratio whose quartiles straddle 1. A veth pair stands for the
wire: it passes super-frames uncut unless --underlay-offloads says otherwise.";

pub(crate) const UDP_EXAMPLES: &str = "Examples:
  podswitch-bench udp
  podswitch-bench udp --peers ours-to-forwarder,forwarder-to-ours --rounds 3

Pods and nodes speak IPv4 here, and nothing else.";

pub(crate) const HOST_GW_EXAMPLES: &str = "Examples:
  podswitch-bench host-gw
  podswitch-bench host-gw --family 6 --peers kernel-host-gw --json";

pub(crate) const ORDER_EXAMPLES: &str = "Examples:
  podswitch-bench order
  podswitch-bench order --millions 1 --rates half --cases '0|1' --json
  podswitch-bench order --through kernel-route

The exit status is 0 only if nothing came late or twice, and as much was delivered as was asked for.";

pub(crate) const NODE_EXAMPLES: &str = "Examples:
  podswitch-bench node
  podswitch-bench node --metrics idle_cpu_percent,rss_mb --seconds 30 --rounds 1
  podswitch-bench node --pods 50 --metrics restart_ms --json

A peer is here the state of things without what is asked about, such as a quiet node.";

pub(crate) const CLUSTER_EXAMPLES: &str = "Examples:
  podswitch-bench cluster
  podswitch-bench cluster --nodes 100,1000,5000,20000 --rounds 1 --json

The programs podswitch and podswitch-agent lie beside this one; etcd is Debian's, which `make deps` installs.";

pub(crate) const CNI_EXAMPLES: &str = "Examples:
  podswitch-bench cni
  podswitch-bench cni --pods 250 --at-once 32 --rounds 3 --json

A figure is the life of a plugin's process. The reference plugins are those of the package containernetworking-plugins.";

pub(crate) const PATH_EXAMPLES: &str = "Examples:
  podswitch-bench path
  podswitch-bench path --pipeline --pods 2 --json

No system call is made: a port in memory gives the same frame as often as it is asked, and takes everything.";

pub(crate) const LOOKUP_EXAMPLES: &str = "Examples:
  podswitch-bench lookup
  podswitch-bench lookup --tables v4_pod,v6_pod --rounds 11 --json
  podswitch-bench lookup --peers prefix-trie,rte_fib

DPDK's tables are compared where libdpdk-dev, pkg-config and a C compiler are installed. Some peers take minutes to load.";

pub(crate) const RING_EXAMPLES: &str = "Examples:
  podswitch-bench ring
  podswitch-bench ring --rounds 101 --milliseconds 2 --json

DPDK's rings are compared where libdpdk-dev, pkg-config and a C compiler are installed.";

pub(crate) const FLOW_CACHE_EXAMPLES: &str = "Examples:
  podswitch-bench flow-cache
  podswitch-bench flow-cache --rounds 101 --json

DPDK's hash table is compared where libdpdk-dev, pkg-config and a C compiler are installed.";
