//! The demo of a cluster: nodes find each other by agents, every pod speaks to every other, then a node is killed and another comes.
//!
//! ```text
//!  N nodes join --> all know all --> mesh --> one is killed --> the others forget it --> one joins --> mesh
//! ```
//!
//! A node that is killed says nothing to anybody: in etcd its lease runs out, in a folder it stays. What fails is reported as
//! `false`; only a broken set-up is an error.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::demo::arrived;
use crate::error::Result;
use crate::load::{Family, Pair, echo, transfer};
use crate::report::STYLE;
use crate::topology::Pod;
use crate::topology::cluster::{Cluster, Member, Store};
use crate::topology::nodes::Backend;

/// What the demo found.
#[derive(Debug, Clone, Serialize)]
pub struct Mesh {
    /// Nodes at once.
    pub nodes: u8,
    /// How they reach each other.
    pub backend: &'static str,
    /// What pods saw before anything happened to a node.
    pub before: Seen,
    /// The killed node was forgotten by all others; absent where nothing tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<bool>,
    /// What pods saw when another had come.
    pub after: Seen,
    /// Whether every switch that was left accounts for every packet.
    pub conservation_ok: bool,
}

/// What pods saw of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Ordered pairs of pods.
    pub pairs: usize,
    /// Of these, how many had their echo request answered.
    pub pinged: usize,
    /// And how many had random bytes arrive as they were sent.
    pub intact: usize,
}

impl Mesh {
    /// Sets all up, lets it happen, and takes it down.
    pub fn run(nodes: u8, store: Store, backend: Backend) -> Result<Self> {
        let cluster = Cluster::new(store, backend, LEASE)?;
        let mut members = (1..=nodes).map(|number| cluster.join(number)).collect::<Result<Vec<_>>>()?;
        let all = usize::from(nodes) - 1;
        members.iter().try_for_each(|member| member.wait_for_neighbors(all))?;
        let mut pods = members.iter().map(Member::pod).collect::<Result<Vec<_>>>()?;
        let before = Seen::by(&pods)?;
        drop((members.remove(0), pods.remove(0)));
        // A folder remembers who was there.
        let ghosts = usize::from(store == Store::File);
        let forgotten =
            members.iter().try_for_each(|member| member.wait_for_neighbors(all - 1 + ghosts)).map(|()| true);
        let forgotten = arrived(forgotten)?;
        members.push(cluster.join(nodes + 1)?);
        members.iter().try_for_each(|member| member.wait_for_neighbors(all + ghosts))?;
        pods.push(members[all].pod()?);
        let after = Seen::by(&pods)?;
        let accounts = members.iter().map(Member::drops).collect::<Result<Vec<_>>>()?;
        let conservation_ok = accounts.iter().all(|account| account.conserved);
        let forgotten = (store == Store::Etcd).then_some(forgotten);
        Ok(Self { nodes, backend: backend.name(), before, forgotten, after, conservation_ok })
    }

    /// Whether everything that must be so is so.
    pub fn passed(&self) -> bool {
        self.before.all() && self.after.all() && self.forgotten != Some(false) && self.conservation_ok
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let word = |good| if good { "ok" } else { "FAILED" }.to_owned();
        let count = |count: usize, of: usize| format!("{} ({count} of {of})", word(count == of));
        let seen = |seen: &Seen| [count(seen.pinged, seen.pairs), count(seen.intact, seen.pairs)];
        let [[ping, intact], [ping_after, intact_after]] = [seen(&self.before), seen(&self.after)];
        let mut rows = vec![("every pod pings every other", ping), ("8 MiB from each to each, SHA-256", intact)];
        rows.extend(self.forgotten.map(|forgotten| ("a killed node is forgotten", word(forgotten))));
        rows.extend([
            ("another node comes: pings", ping_after),
            ("the same bytes again", intact_after),
            ("every packet accounted for", word(self.conservation_ok)),
        ]);
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([&format!("{} nodes that find each other, by {}", self.nodes, self.backend), ""]);
        table.add_rows(rows.iter().map(|(what, result)| [*what, result.as_str()]));
        table.to_string()
    }
}

impl Seen {
    fn by(pods: &[Pod]) -> Result<Self> {
        let mut seen = Self::default();
        for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
            if from.address(Family::V4) == to.address(Family::V4) {
                continue;
            }
            let pair = Pair { from, to, family: Family::V4, case: None, urgent: false };
            seen.pairs += 1;
            seen.pinged += usize::from(echo::is_answered(pair)?);
            seen.intact += usize::from(arrived(transfer::is_intact(pair, MEGABYTES, seen.pairs as u64))?);
        }
        Ok(seen)
    }

    fn all(&self) -> bool {
        self.pinged == self.pairs && self.intact == self.pairs
    }
}

const MEGABYTES: usize = 8;
/// So long a killed node is remembered.
const LEASE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_find_each_other_by_etcd_and_forget_one_that_is_killed() {
        let mesh = Mesh::run(3, Store::Etcd, Backend::Vxlan).unwrap();
        assert!(mesh.passed() && mesh.forgotten == Some(true), "{}", mesh.table());
        assert_eq!((mesh.before.pairs, mesh.after.pairs), (6, 6));
    }

    #[test]
    fn nodes_find_each_other_by_a_folder_which_forgets_nobody() {
        let mesh = Mesh::run(3, Store::File, Backend::HostGw).unwrap();
        assert!(mesh.passed() && mesh.forgotten.is_none(), "{}", mesh.table());
    }

    #[test]
    fn what_one_pod_did_not_see_fails_the_demo() {
        let all = Seen { pairs: 6, pinged: 6, intact: 6 };
        let mesh = Mesh { nodes: 3, backend: "vxlan", before: all, forgotten: None, after: all, conservation_ok: true };
        assert!(mesh.passed() && !mesh.table().contains("FAILED"));
        let lame = Mesh { after: Seen { pinged: 5, ..all }, ..mesh };
        assert!(!lame.passed() && lame.table().contains("FAILED (5 of 6)"), "{}", lame.table());
    }
}
