//! What podswitch asks of the kernel: namespaces, links, routes, TAPs.
//!
//! The rule: typed requests, no policy. Nothing here decides a name, a route or a default for podswitch; each function
//! asks the kernel for one thing, blocks until it is done, and says by [`Error`] what was refused and what would mend
//! it. No process is started, no command is run, and no thread of the caller changes its namespace.
//!
//! * Namespaces: [`Namespace`] `open`, `current`, `named`, `create_named`, `delete_named`, `run`, `loopback_up`;
//!   [`TemporaryNamespace`] for tests and benches.
//! * [`Netlink`] `open`, `open_in`: a conversation about one namespace, in which one may say
//!   * of a [`Link`]: `link`, `link_by_index`, `links`, `create_veth` ([`VethPair`]), `create_bridge`, `create_vxlan`
//!     ([`Vxlan`]), `add_vxlan_peer`, `vxlan_ports`, `change_link` ([`LinkChange`]: name, MAC, MTU, up, master,
//!     namespace, queue length, GSO limits), `set_no_queue`, `delete_link`;
//!   * of an [`Address`]: `add_address`, `delete_address`, `addresses`;
//!   * of a [`Route`]: `add_route`, `replace_route`, `delete_route`, `routes`; [`RouteWatch`] tells when some changed;
//!   * of a permanent [`Neighbor`]: `add_neighbor`, `replace_neighbor`, `delete_neighbor`, `neighbors`.
//! * Settings: [`Sysctl`] `net`, `interface`, `read`, `write`.
//! * TAPs: [`Tap`] `open` ([`TapOptions`]), `queues`, `abilities`, `set_abilities`, `offers`, `mac`, `name`,
//!   `set_persistent`, `set_carrier`; [`tap_holder`]; [`Steering`] `new`, `attach`, `attach_to_group`, `departed`,
//!   `sender_cpu`: which queue a frame takes.
//!
//! * Trains of datagrams: [`TunnelSocket`] `open`, `group`, `ipip_group`, `send`, `receive` ([`Train`]); [`path_mtu`].
//!
//! Almost all of it needs `CAP_NET_ADMIN`; entering and making namespaces needs `CAP_SYS_ADMIN`.

mod address;
mod error;
#[allow(unsafe_code, reason = "the ioctls of TAPs and namespaces have no safe form elsewhere")]
mod ioctl;
mod link;
mod namespace;
mod neighbor;
mod netlink;
mod route;
mod route_watch;
#[allow(unsafe_code, reason = "sched_setscheduler has no safe form elsewhere")]
mod scheduling;
mod steering;
mod sysctl;
mod tap;
#[allow(unsafe_code, reason = "trains of datagrams need control messages, which have no safe form without allocation")]
mod tunnel_socket;
mod vxlan;

pub use address::Address;
pub use error::Error;
pub use link::{Link, LinkChange, LinkCounters, VethPair};
pub use namespace::{Identity, Namespace, TemporaryNamespace};
pub use neighbor::Neighbor;
pub use netlink::Netlink;
pub use route::{Route, RouteKind, Scope};
pub use route_watch::RouteWatch;
pub use scheduling::{Scheduling, set_scheduling};
pub use steering::{Steered, Steering, Taken};
pub use sysctl::{Family, Sysctl};
pub use tap::{Abilities, TUNNEL_HEADER_LEN, Tap, TapFeature, TapOptions, tap_holder};
pub use tunnel_socket::{Datagrams, SLICES_MAX, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train, TunnelSocket, path_mtu};
pub use vxlan::Vxlan;
