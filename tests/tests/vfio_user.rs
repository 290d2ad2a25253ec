//! vfio-user: our client against our server, and each of them against a peer that says
//! what it wants.

mod vfio_user {
    mod client;
    mod dma;
    mod foreign;
    mod listen;
    mod pair;
    mod server;
}
