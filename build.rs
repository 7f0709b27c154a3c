//! Links the binary at a fixed address: a position-independent one carries about a megabyte of
//! relocated data, which every monitor would hold in private memory. And with the unwinder inside:
//! a library less to load at each of the two starts of a container.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
    println!("cargo::rustc-link-arg-bins=-static-libgcc");
}
