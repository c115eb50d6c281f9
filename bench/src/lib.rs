//! Demo, load generator and side-by-side benches of podswitch.
