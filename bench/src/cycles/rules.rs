//! The scene's rules: a policy for every pod and both directions, which allows everything.

use std::sync::Arc;

use podswitch::connections::{CONNECTIONS, Connections};
use podswitch::enforcement::{Enforcement, Guards};
use policy::labels::Labels;
use policy::{Library, LocalPod};

use super::{PODS, v4};

/// What is enforced for all pods.
pub(super) fn enforcement() -> Enforcement {
    let mut library = Library::new();
    for port in 1..=PODS {
        let pod = LocalPod::new(("scene", &port.to_string()), Labels::new(), vec![v4(port).into()]);
        library.attach(pod.expect("it has no labels of its own"));
    }
    library.apply(POLICY).expect("a policy as it should be").forget();
    drop(library.compile());
    let book = library.book();
    let guards = |port: u16| {
        let programs = book.programs(&format!("scene/{port}"))?;
        Some(Guards { ingress: Arc::clone(&programs.ingress), egress: Arc::clone(&programs.egress) })
    };
    Enforcement {
        peers: book.peers().clone(),
        ports: (0..=PODS).map(guards).collect(),
        generation: 1,
        own: Vec::new(),
        connections: Arc::new(Connections::new(CONNECTIONS)),
    }
}

const POLICY: &str = "
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: all, namespace: scene},
 spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}}
";
