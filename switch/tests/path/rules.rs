//! Rules for the pods of a rig: the pod behind port N is `shop/pN`, and has the label `pod: pN`.

use std::sync::Arc;

use podswitch::connections::Connections;
use podswitch::enforcement::{Enforcement, Guards};
use policy::labels::Labels;
use policy::{Library, LocalPod};

use crate::rig::{ROUTER_V4, Rig, v4, v6};

/// What was told, and what it comes to.
pub(crate) struct Rules {
    pub(crate) library: Library,
    connections: Arc<Connections>,
    generation: u32,
}

impl Rules {
    /// For pods behind the ports from 1 to `last`, who are open.
    pub(crate) fn new(last: u16) -> Rules {
        let mut library = Library::new();
        for port in 1..=last {
            let name = format!("p{port}");
            let labels = Labels::from([("pod".into(), name.as_str().into())]);
            let addresses = vec![v4(port).into(), v6(port).into()];
            library.attach(LocalPod::new(("shop", &name), labels, addresses).unwrap());
        }
        Rules { library, connections: Arc::new(Connections::new(1 << 12)), generation: 0 }
    }

    /// Takes documents in.
    pub(crate) fn apply(&mut self, text: &str) {
        self.library.apply(text).unwrap().forget();
    }

    /// Has all of it in force.
    pub(crate) fn enforce(&mut self, rig: &mut Rig) {
        drop(self.library.compile());
        self.generation += 1;
        let book = self.library.book();
        let guards = |port: usize| {
            let programs = book.programs(&format!("shop/p{port}"))?;
            Some(Guards { ingress: Arc::clone(&programs.ingress), egress: Arc::clone(&programs.egress) })
        };
        rig.world.enforcement = Some(Arc::new(Enforcement {
            peers: book.peers().clone(),
            ports: (0..rig.world.ports.len()).map(guards).collect(),
            generation: self.generation,
            own: vec![ROUTER_V4.into()],
            connections: Arc::clone(&self.connections),
        }));
    }
}
