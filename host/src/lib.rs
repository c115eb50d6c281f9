//! What podswitch asks of the kernel: namespaces, links, routes, TAPs.
