//! The network between nodes: the addresses that tunnels end at, and devices of the kernel that have a tunnel's port.

use std::net::IpAddr;

use control::ConfigView;
use host::{Address, Error, Link, Netlink};

use super::{Finding, found, lacking, note};
use crate::config::Underlay;

/// Looks at the underlay of a switch that runs with `config`; without one, at the ports it would have.
pub(super) fn findings(config: Option<&ConfigView>) -> Vec<Finding> {
    vec![addresses(config), ports(config)]
}

fn addresses(config: Option<&ConfigView>) -> Finding {
    let subject = "underlay address";
    let Some(ConfigView { underlay_address, .. }) = config else {
        return note(subject, "not examined: no switch runs");
    };
    if underlay_address.is_empty() {
        return found(subject, "none: the switch has no tunnels");
    }
    let looked = Netlink::open().and_then(|mut own| Ok((own.addresses()?, own.links()?)));
    match looked {
        Ok((addresses, links)) => judge(underlay_address, &addresses, &links),
        Err(error) => lacking(subject, error.to_string(), "run as root"),
    }
}

/// Each address is on an interface that is up.
fn judge(underlay: &[IpAddr], addresses: &[Address], links: &[Link]) -> Finding {
    let subject = "underlay address";
    let mut places = Vec::new();
    for own in underlay {
        let holder = addresses.iter().find(|address| address.net.addr() == *own);
        let Some(link) = holder.and_then(|holder| links.iter().find(|link| link.index == holder.link)) else {
            let cure =
                format!("ip address add {own} to the interface towards other nodes, or correct underlay_address");
            return lacking(subject, format!("no interface has {own}: nothing goes through the tunnels"), cure);
        };
        if !link.up {
            let detail = format!("{own} is on {}, which is down: nothing goes through the tunnels", link.name);
            return lacking(subject, detail, format!("ip link set {} up", link.name));
        }
        places.push(format!("{own} on {}", link.name));
    }
    found(subject, places.join(", "))
}

fn ports(config: Option<&ConfigView>) -> Finding {
    let defaults = Underlay::default();
    let (vxlan, udp) =
        config.map_or((defaults.vxlan_port, defaults.udp_port), |config| (config.vxlan_port, config.udp_port));
    let devices = Netlink::open().and_then(|mut own| own.vxlan_ports());
    taken(devices, &[vxlan, udp, IANA_VXLAN_PORT])
}

/// A device of the kernel that has one of `ports` keeps the switch from opening its end there.
fn taken(devices: Result<Vec<(String, u16)>, Error>, ports: &[u16]) -> Finding {
    let subject = "ports of tunnels";
    let devices = match devices {
        Ok(devices) => devices,
        Err(error) => return note(subject, format!("not examined: {error}")),
    };
    match devices.iter().find(|(_, port)| ports.contains(port)) {
        None => found(subject, "no device of the kernel has one"),
        Some((name, port)) => note(subject, format!("{name}, a VXLAN device of the kernel, has UDP port {port}"))
            .cured(format!(
                "to have the switch take its place: end the program that made it, `ip link del {name}`, and run with \
                 vxlan_port = {port} and the same vxlan_vni"
            )),
    }
}

/// Calico's too.
const IANA_VXLAN_PORT: u16 = 4789;

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn an_address_that_is_gone_or_down_is_a_lack() {
        let own: IpAddr = "192.168.9.1".parse().unwrap();
        let address = Address::new(3, "192.168.9.1/24".parse().unwrap());
        let link = |up| Link { index: 3, name: "eth9".to_owned(), up, ..Link::default() };
        let finding = judge(&[own], &[address], &[link(true)]);
        assert_eq!((finding.status, finding.detail.as_str()), (Status::Ok, "192.168.9.1 on eth9"));
        let finding = judge(&[own], &[address], &[link(false)]);
        assert_eq!((finding.status, finding.cure.as_deref()), (Status::Lack, Some("ip link set eth9 up")));
        let finding = judge(&[own], &[], &[link(true)]);
        assert!(finding.status == Status::Lack && finding.detail.contains("no interface has 192.168.9.1"));
    }

    #[test]
    fn a_device_that_has_a_tunnels_port_is_named() {
        let devices = |name: &str, port| Ok(vec![(name.to_owned(), port)]);
        assert_eq!(taken(devices("vxlan9", 9000), &[8472, 4789]).status, Status::Ok);
        let finding = taken(devices("vxlan.calico", 4789), &[8472, 4789]);
        assert_eq!(finding.status, Status::Note);
        assert!(finding.detail.contains("vxlan.calico") && finding.detail.contains("4789"));
        assert!(finding.cure.unwrap().contains("ip link del vxlan.calico"));
    }
}
