//! The edges: sockets, processes, files. They decide nothing.
