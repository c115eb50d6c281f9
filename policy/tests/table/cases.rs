//! A truth table in the shape of upstream's network-policy tests: namespaces x, y, z with pods a, b, c; ports 80 and 81 of TCP, UDP and SCTP.
//!
//! A case is policies as people write them and, for each probe from one pod to another, whether it gets through, which is said here in
//! terms of pods and ports and not worked out from the rules. Cases are products: what the peer is (nine ways, in three languages),
//! which ports, which direction, and what is built of such a match ([`SHAPES`]). The file uses nothing of the crate's, so that
//! others can ask the same of anything that enforces policies: rules, programs, or pods with real traffic.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Policies and what they let through.
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// YAML documents, without those of [`world`].
    pub documents: String,
    /// The pod that policies select, and whether they look at what comes to it or at what it sends.
    pub is_ingress: bool,
    peer: &'static Peer,
    ports: &'static PortsOf,
    /// Whether a match is let through, and whether everything else is.
    match_passes: bool,
    rest_passes: bool,
}

/// A pod of the table: namespace and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod(pub char, pub char);

/// An attempt of one pod to reach a port of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub from: Pod,
    pub to: Pod,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    pub port: u16,
}

/// The pod that all cases are about.
pub const SUBJECT: Pod = Pod('x', 'a');
pub const PODS: [Pod; 9] = [
    Pod('x', 'a'),
    Pod('x', 'b'),
    Pod('x', 'c'),
    Pod('y', 'a'),
    Pod('y', 'b'),
    Pod('y', 'c'),
    Pod('z', 'a'),
    Pod('z', 'b'),
    Pod('z', 'c'),
];
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
pub const PORTS: [u16; 2] = [80, 81];

impl Pod {
    pub fn name(self) -> String {
        format!("{}/{}", self.0, self.1)
    }

    fn number(self) -> (u8, u8) {
        (self.0 as u8 - b'x', self.1 as u8 - b'a')
    }

    /// 10.96.NAMESPACE.POD, each counted from 0, the pod with 4 added.
    pub fn v4(self) -> IpAddr {
        let (namespace, pod) = self.number();
        Ipv4Addr::new(10, 96, namespace, 4 + pod).into()
    }

    /// fd00:96:0:NAMESPACE::POD in the same way.
    pub fn v6(self) -> IpAddr {
        let (namespace, pod) = self.number();
        Ipv6Addr::new(0xfd00, 0x96, 0, namespace.into(), 0, 0, 0, u16::from(4 + pod)).into()
    }
}

impl Case {
    /// Whether the probe gets through. What a pod says to itself is not asked.
    pub fn passes(&self, probe: Probe) -> bool {
        let (subject, peer) = if self.is_ingress { (probe.to, probe.from) } else { (probe.from, probe.to) };
        if subject != SUBJECT {
            return true;
        }
        let is_match = (self.peer.is)(peer) && (self.ports.has)(probe.protocol, probe.port);
        if is_match { self.match_passes } else { self.rest_passes }
    }
}

/// All attempts of all pods to reach the others.
pub fn probes() -> impl Iterator<Item = Probe> {
    let pairs = PODS.into_iter().flat_map(|from| PODS.into_iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).flat_map(|(from, to)| {
        let ports = PROTOCOLS.into_iter().flat_map(|protocol| PORTS.into_iter().map(move |port| (protocol, port)));
        ports.map(move |(protocol, port)| Probe { from, to, protocol, port })
    })
}

/// Namespaces and pods, as documents.
pub fn world() -> String {
    let mut documents = String::new();
    for namespace in ['x', 'y', 'z'] {
        let name =
            format!("name: '{namespace}', labels: {{ns: '{namespace}', kubernetes.io/metadata.name: '{namespace}'}}");
        writeln!(documents, "---\n{{apiVersion: v1, kind: Namespace, metadata: {{{name}}}}}")
            .expect("strings take all");
    }
    for pod in PODS {
        let metadata = format!("name: {}, namespace: '{}', labels: {{pod: {}}}", pod.1, pod.0, pod.1);
        let ports = PROTOCOLS.iter().flat_map(|protocol| {
            PORTS.map(|port| {
                let name = format!("serve-{port}-{}", protocol.to_lowercase());
                format!("{{name: {name}, containerPort: {port}, protocol: {protocol}}}")
            })
        });
        let ports: Vec<String> = ports.collect();
        let spec = format!("containers: [{{name: all, ports: [{}]}}]", ports.join(", "));
        let status = format!("podIP: {}, podIPs: [{{ip: {}}}, {{ip: \"{}\"}}]", pod.v4(), pod.v4(), pod.v6());
        let parts = format!("metadata: {{{metadata}}}, spec: {{{spec}}}, status: {{{status}}}");
        writeln!(documents, "---\n{{apiVersion: v1, kind: Pod, {parts}}}").expect("strings take all");
    }
    documents
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in &SHAPES {
        for peer in &PEERS {
            for ports in &PORTS_OF {
                for is_ingress in [true, false] {
                    cases.extend(shape.case(peer, ports, is_ingress));
                }
            }
        }
    }
    cases
}

/// Who the other end is: said in each language that can, and which pods that are.
struct Peer {
    name: &'static str,
    /// An entry of `from` or `to`; none that says anyone by leaving them out.
    kubernetes: Option<&'static str>,
    /// Fields of `source` or `destination`.
    calico: &'static str,
    /// The same for packets of a cluster's policies, which have to name someone.
    cluster: Option<&'static str>,
    is: fn(Pod) -> bool,
}

static PEERS: [Peer; 9] = [
    Peer { name: "anyone", kubernetes: None, calico: "", cluster: Some("namespaces: {}"), is: |_| true },
    Peer {
        name: "pods of the namespace",
        kubernetes: Some("podSelector: {}"),
        calico: "selector: all()",
        cluster: Some("namespaces: {matchLabels: {ns: x}}"),
        is: |pod| pod.0 == 'x',
    },
    Peer {
        name: "pods b of the namespace",
        kubernetes: Some("podSelector: {matchLabels: {pod: b}}"),
        calico: "selector: pod == 'b'",
        cluster: Some("pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: b}}}"),
        is: |pod| pod == Pod('x', 'b'),
    },
    Peer {
        name: "namespace y",
        kubernetes: Some("namespaceSelector: {matchLabels: {ns: 'y'}}"),
        calico: "namespaceSelector: ns == 'y'",
        cluster: Some("namespaces: {matchLabels: {ns: 'y'}}"),
        is: |pod| pod.0 == 'y',
    },
    Peer {
        name: "pods b or c of namespaces other than x",
        kubernetes: Some(
            "namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}, \
             podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}",
        ),
        calico: "namespaceSelector: ns != 'x', selector: \"pod in {'b', 'c'}\"",
        cluster: Some(
            "pods: {namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}, \
             podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}}",
        ),
        is: |pod| pod.0 != 'x' && pod.1 != 'a',
    },
    Peer {
        name: "all namespaces",
        kubernetes: Some("namespaceSelector: {}"),
        calico: "namespaceSelector: all()",
        cluster: Some("pods: {namespaceSelector: {}, podSelector: {}}"),
        is: |_| true,
    },
    Peer {
        name: "a block with an exception",
        kubernetes: Some("ipBlock: {cidr: 10.96.0.0/16, except: [10.96.1.0/24, 10.96.2.4/32]}"),
        calico: "nets: [10.96.0.0/16], notNets: [10.96.1.0/24, 10.96.2.4/32]",
        cluster: None,
        is: |pod| pod.0 != 'y' && pod != Pod('z', 'a'),
    },
    Peer {
        name: "one address",
        kubernetes: Some("ipBlock: {cidr: 10.96.2.5/32}"),
        calico: "nets: [10.96.2.5]",
        cluster: None,
        is: |pod| pod == Pod('z', 'b'),
    },
    Peer {
        name: "nobody there is",
        kubernetes: Some("podSelector: {matchLabels: {pod: d}}"),
        calico: "selector: pod == 'd'",
        cluster: Some("namespaces: {matchLabels: {ns: w}}"),
        is: |_| false,
    },
];

/// Which ports, in each language.
struct PortsOf {
    name: &'static str,
    /// Entries of `ports`; none where all are meant.
    kubernetes: &'static str,
    /// The protocol, and the ports of the destination.
    calico: (&'static str, &'static str),
    /// Entries of `protocols`.
    cluster: &'static str,
    has: fn(&str, u16) -> bool,
}

static PORTS_OF: [PortsOf; 7] = [
    PortsOf { name: "all ports", kubernetes: "", calico: ("", ""), cluster: "", has: |_, _| true },
    PortsOf {
        name: "80/TCP",
        kubernetes: "{port: 80}",
        calico: ("TCP", "80"),
        cluster: "{tcp: {destinationPort: {number: 80}}}",
        has: |protocol, port| protocol == "TCP" && port == 80,
    },
    PortsOf {
        name: "81/UDP",
        kubernetes: "{protocol: UDP, port: 81}",
        calico: ("UDP", "81"),
        cluster: "{udp: {destinationPort: {number: 81}}}",
        has: |protocol, port| protocol == "UDP" && port == 81,
    },
    PortsOf {
        name: "80/SCTP",
        kubernetes: "{protocol: SCTP, port: 80}",
        calico: ("SCTP", "80"),
        cluster: "{sctp: {destinationPort: {number: 80}}}",
        has: |protocol, port| protocol == "SCTP" && port == 80,
    },
    PortsOf {
        name: "a range of TCP",
        kubernetes: "{protocol: TCP, port: 79, endPort: 81}",
        calico: ("TCP", "'79:81'"),
        cluster: "{tcp: {destinationPort: {range: {start: 79, end: 81}}}}",
        has: |protocol, _| protocol == "TCP",
    },
    PortsOf {
        name: "a port by name",
        kubernetes: "{protocol: UDP, port: serve-81-udp}",
        calico: ("UDP", "serve-81-udp"),
        cluster: "{destinationNamedPort: serve-81-udp}",
        has: |protocol, port| protocol == "UDP" && port == 81,
    },
    PortsOf {
        name: "a port that nobody has",
        kubernetes: "{protocol: TCP, port: serve-82-tcp}",
        calico: ("TCP", "serve-82-tcp"),
        cluster: "{tcp: {destinationPort: {number: 82}}}",
        has: |_, _| false,
    },
];

/// What is built of a match.
struct Shape {
    name: &'static str,
    match_passes: bool,
    rest_passes: bool,
    /// The documents; none where the language cannot say it.
    documents: fn(&Say<'_>) -> Option<String>,
}

static SHAPES: [Shape; 10] = [
    Shape {
        name: "Kubernetes allows it",
        match_passes: true,
        rest_passes: false,
        documents: |say| Some(say.kubernetes(&say.kubernetes_rule())),
    },
    Shape {
        name: "Kubernetes allows it beside a policy that allows nothing",
        match_passes: true,
        rest_passes: false,
        documents: |say| {
            Some(say.kubernetes("[]").replace("name: it", "name: nothing") + &say.kubernetes(&say.kubernetes_rule()))
        },
    },
    Shape {
        name: "Calico allows it",
        match_passes: true,
        rest_passes: false,
        documents: |say| Some(say.calico("default", &[("Allow", true)])),
    },
    Shape {
        name: "Calico denies it and allows the rest",
        match_passes: false,
        rest_passes: true,
        documents: |say| Some(say.calico("default", &[("Log", true), ("Deny", true), ("Allow", false)])),
    },
    Shape {
        name: "a tier of Calico's passes it on and denies the rest",
        match_passes: true,
        rest_passes: false,
        documents: |say| {
            let tier =
                "---\n{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: early}, spec: {order: 5}}\n";
            Some(tier.to_owned() + &say.calico("early", &[("Pass", true)]))
        },
    },
    Shape {
        name: "a tier of Calico's denies it and passes the rest to Kubernetes, which allows all",
        match_passes: false,
        rest_passes: true,
        documents: |say| {
            let tier = "---\n{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: early}, \
                        spec: {order: 5, defaultAction: Pass}}\n";
            Some(tier.to_owned() + &say.calico("early", &[("Deny", true)]) + &say.kubernetes("[{}]"))
        },
    },
    Shape {
        name: "the administrator denies it",
        match_passes: false,
        rest_passes: true,
        documents: |say| say.cluster("Admin", &["Deny"]),
    },
    Shape {
        name: "the administrator accepts it although Kubernetes allows nothing",
        match_passes: true,
        rest_passes: false,
        documents: |say| Some(say.cluster("Admin", &["Accept"])? + &say.kubernetes("[]")),
    },
    Shape {
        name: "the administrator passes it to Kubernetes, which allows it, and denies it after",
        match_passes: true,
        rest_passes: false,
        documents: |say| Some(say.cluster("Admin", &["Pass", "Deny"])? + &say.kubernetes(&say.kubernetes_rule())),
    },
    Shape {
        name: "the baseline denies it",
        match_passes: false,
        rest_passes: true,
        documents: |say| say.cluster("Baseline", &["Deny"]),
    },
];

impl Shape {
    fn case(&self, peer: &'static Peer, ports: &'static PortsOf, is_ingress: bool) -> Option<Case> {
        let documents = (self.documents)(&Say { peer, ports, is_ingress })?;
        let direction = if is_ingress { "from" } else { "to" };
        Some(Case {
            name: format!("{}: {direction} {}, {}", self.name, peer.name, ports.name),
            documents,
            is_ingress,
            peer,
            ports,
            match_passes: self.match_passes,
            rest_passes: self.rest_passes,
        })
    }
}

/// A match, and how it is said.
struct Say<'a> {
    peer: &'a Peer,
    ports: &'a PortsOf,
    is_ingress: bool,
}

impl Say<'_> {
    fn direction(&self) -> (&'static str, &'static str) {
        if self.is_ingress { ("ingress", "from") } else { ("egress", "to") }
    }

    /// A list with one rule.
    fn kubernetes_rule(&self) -> String {
        let (_, end) = self.direction();
        let mut parts = Vec::new();
        parts.extend(self.peer.kubernetes.map(|peer| format!("{end}: [{{{peer}}}]")));
        parts.extend((!self.ports.kubernetes.is_empty()).then(|| format!("ports: [{}]", self.ports.kubernetes)));
        format!("[{{{}}}]", parts.join(", "))
    }

    fn kubernetes(&self, rules: &str) -> String {
        let (direction, _) = self.direction();
        let kind = if self.is_ingress { "Ingress" } else { "Egress" };
        let spec = format!("podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [{kind}], {direction}: {rules}");
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
             metadata: {{name: it, namespace: x}}, spec: {{{spec}}}}}\n"
        )
    }

    /// Rules by action: for the match, or for everything.
    fn calico(&self, tier: &str, rules: &[(&str, bool)]) -> String {
        let (direction, _) = self.direction();
        let rules: Vec<String> = rules.iter().map(|&(action, is_match)| self.calico_rule(action, is_match)).collect();
        let spec = format!("tier: {tier}, order: 10, selector: pod == 'a', {direction}: [{}]", rules.join(", "));
        format!(
            "---\n{{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, \
             metadata: {{name: calico, namespace: x}}, spec: {{types: [{}], {spec}}}}}\n",
            if self.is_ingress { "Ingress" } else { "Egress" }
        )
    }

    fn calico_rule(&self, action: &str, is_match: bool) -> String {
        if !is_match {
            return format!("{{action: {action}}}");
        }
        let (protocol, ports) = self.ports.calico;
        let ports = if ports.is_empty() { String::new() } else { format!("ports: [{ports}]") };
        let protocol = if protocol.is_empty() { String::new() } else { format!(", protocol: {protocol}") };
        let peer = self.peer.calico.to_owned();
        let (source, destination) = match self.is_ingress {
            true => (peer, ports),
            false if peer.is_empty() || ports.is_empty() => (String::new(), peer + &ports),
            false => (String::new(), format!("{peer}, {ports}")),
        };
        format!("{{action: {action}{protocol}, source: {{{source}}}, destination: {{{destination}}}}}")
    }

    /// A rule for the match by each action.
    fn cluster(&self, tier: &str, actions: &[&str]) -> Option<String> {
        let (direction, end) = self.direction();
        let peer = self.peer.cluster?;
        let protocols = match self.ports.cluster {
            "" => String::new(),
            protocols => format!(", protocols: [{protocols}]"),
        };
        let rules = actions.iter().map(|action| format!("{{action: {action}, {end}: [{{{peer}}}]{protocols}}}"));
        let rules: Vec<String> = rules.collect();
        let subject = "pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}";
        let spec = format!("tier: {tier}, priority: 7, subject: {{{subject}}}, {direction}: [{}]", rules.join(", "));
        Some(format!(
            "---\n{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
             metadata: {{name: cluster}}, spec: {{{spec}}}}}\n"
        ))
    }
}
