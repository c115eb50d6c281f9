//! The network between nodes: the addresses that tunnels end at, and who else has a tunnel's port.

use std::net::IpAddr;

use control::{Backend, ConfigView};
use encap::VXLAN_PORT;
use host::{Address, Error, Link, Netlink};

use super::{Finding, Status, found, lacking, note, text};
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
    let ports = [vxlan, udp, VXLAN_PORT];
    let by_a_device = taken(Netlink::open().and_then(|mut own| own.vxlan_ports()), &ports);
    let ipip = config.is_some_and(|config| config.tunnels.contains(&Backend::Ipip));
    if let Some(twice) =
        Netlink::open().and_then(|mut own| own.links()).ok().filter(|_| ipip).and_then(|links| received_twice(&links))
    {
        return twice;
    }
    // Of a switch that runs the sockets are its own.
    if by_a_device.status != Status::Ok || config.is_some() {
        return by_a_device;
    }
    let sockets = ["/proc/net/udp", "/proc/net/udp6"].map(|list| text(list).unwrap_or_default());
    sockets.iter().find_map(|sockets| held(sockets, &ports)).unwrap_or(by_a_device)
}

/// A program that listens at one of `ports`; `sockets` is what `/proc/net/udp` lists (proc_net(5)).
fn held(sockets: &str, ports: &[u16]) -> Option<Finding> {
    let port_of = |line: &str| {
        let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let port = sockets.lines().filter_map(port_of).find(|port| ports.contains(port))?;
    let finding = note("ports of tunnels", format!("another program has UDP port {port}"));
    Some(finding.cured(format!("`ss -ulpn sport = :{port}` names it: end it where the switch is to have that tunnel")))
}

/// A device of the kernel that has one of `ports` keeps the switch from opening its end there.
fn taken(devices: Result<Vec<(String, u16)>, Error>, ports: &[u16]) -> Finding {
    let subject = "ports of tunnels";
    let devices = match devices {
        Ok(devices) => devices,
        Err(error) => return note(subject, format!("not examined: {error}")),
    };
    match devices.iter().find(|(_, port)| ports.contains(port)) {
        None => found(subject, "nobody else has one"),
        Some((name, port)) => note(subject, format!("{name}, a VXLAN device of the kernel, has UDP port {port}"))
            .cured(format!(
                "to have the switch take its place: end the program that made it, `ip link del {name}`, and run with \
                 vxlan_port = {port} and the same vxlan_vni"
            )),
    }
}

/// A device of the kernel that takes what comes through `ipip` tunnels beside our socket.
fn received_twice(links: &[Link]) -> Option<Finding> {
    let device = links.iter().find(|link| link.kind == "ipip" && link.up)?;
    let detail = format!(
        "{}, an IP-in-IP device of the kernel, is up: the kernel takes what comes by that tunnel too",
        device.name
    );
    Some(note("ports of tunnels", detail).cured(format!("ip link set {} down", device.name)))
}

#[cfg(test)]
mod tests {
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
    fn a_program_that_has_a_tunnels_port_is_told_of() {
        let line =
            |port| format!("  1: 00000000:{port:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 7\n");
        let sockets = format!("  sl  local_address rem_address   st\n{}{}", line(53), line(8285));
        let finding = held(&sockets, &[8472, 8285]).unwrap();
        assert!(finding.detail.contains("8285") && finding.cure.unwrap().contains("sport = :8285"));
        assert_eq!(held(&sockets, &[8472, 4789]), None);
    }

    #[test]
    fn an_ipip_device_that_is_up_is_named() {
        let link = |kind: &str, up| Link { name: "tunl0".to_owned(), kind: kind.to_owned(), up, ..Link::default() };
        assert_eq!(received_twice(&[link("ipip", false), link("vxlan", true)]), None);
        let finding = received_twice(&[link("vxlan", true), link("ipip", true)]).unwrap();
        assert!(finding.detail.contains("tunl0") && finding.cure.unwrap() == "ip link set tunl0 down");
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
