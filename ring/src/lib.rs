//! Burst rings, the world snapshot and counters of podswitch.
