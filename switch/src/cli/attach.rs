//! `podswitch attach`.

use std::net::IpAddr;

use clap::Args;
use control::{Attach, Bandwidth, BitRate, Client, InterfaceName, Mtu, Name, NetnsPath, Origin, PodAddress, RateLimit};
use packet::Mac;

use super::{Error, json, print};

#[derive(Args)]
pub(super) struct AttachArgs {
    /// Name of the new endpoint.
    name: Name,
    /// The pod's namespace: a path, or a name of `ip netns`.
    #[arg(long, value_name = "NETNS")]
    netns: NetnsPath,
    /// The interface to make there.
    #[arg(long, value_name = "INTERFACE", default_value_t)]
    ifname: InterfaceName,
    /// An address of the pod; give it once for each.
    #[arg(long, value_name = "ADDRESS", required = true)]
    address: Vec<PodAddress>,
    /// MTU of the interface [default: the switch's].
    #[arg(long, value_name = "BYTES")]
    mtu: Option<Mtu>,
    /// Ethernet address of the interface [default: made from the first address].
    #[arg(long)]
    mac: Option<Mac>,
    /// Most bits a second to the pod, such as 100M.
    #[arg(long, value_name = "RATE")]
    ingress_rate: Option<BitRate>,
    /// Bits to the pod at once after a pause [default: 10 ms of the rate].
    #[arg(long, value_name = "BITS", requires = "ingress_rate", value_parser = burst)]
    ingress_burst: Option<u64>,
    /// Most bits a second from the pod.
    #[arg(long, value_name = "RATE")]
    egress_rate: Option<BitRate>,
    /// Bits from the pod at once after a pause [default: 10 ms of the rate].
    #[arg(long, value_name = "BITS", requires = "egress_rate", value_parser = burst)]
    egress_burst: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl AttachArgs {
    pub(super) fn execute(self, client: &Client) -> Result<(), Error> {
        let bandwidth = self.bandwidth();
        let AttachArgs { name, netns, ifname, address, mtu, mac, json: as_json, .. } = self;
        let (interface, addresses) = (ifname, address);
        let (assign, network, origin) = (None, None, Origin::Cli);
        let attach = Attach { name, netns, interface, addresses, assign, mtu, mac, network, bandwidth, origin };
        let attached = client.attach(attach)?;
        if as_json {
            return print(&json(&attached));
        }
        let gateways: Vec<String> = attached.gateways.iter().map(IpAddr::to_string).collect();
        print(&format!(
            "port {} is {} with {}, MTU {}, by way of {}\n",
            attached.port,
            attached.interface,
            attached.mac,
            attached.mtu,
            gateways.join(" and ")
        ))
    }

    fn bandwidth(&self) -> Bandwidth {
        let limit = |rate: Option<BitRate>, burst| rate.map(|rate| RateLimit { rate, burst });
        Bandwidth {
            ingress: limit(self.ingress_rate, self.ingress_burst),
            egress: limit(self.egress_rate, self.egress_burst),
        }
    }
}

fn burst(text: &str) -> Result<u64, String> {
    control::bits(text).ok_or_else(|| format!("'{text}' is no number of bits: write one such as 800k"))
}

pub(super) const ATTACH_EXAMPLES: &str = "\
Examples:
  podswitch attach web-0 --netns web --address 10.244.0.2
  podswitch attach db --netns /proc/4711/ns/net --ifname net1 --address 10.244.0.3 --address fd00:10:244::3
  podswitch attach batch --netns batch --address 10.244.0.4 --ingress-rate 1G --egress-rate 100M

A prefix length behind an address is allowed and ignored: every pod is alone on its link.";
