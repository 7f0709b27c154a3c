//! Links the binary at a fixed address: a position-independent one carries about a megabyte of
//! relocated data, which every monitor would hold in private memory. And with the unwinder inside:
//! a library less to load at each of the two starts of a container.

#![allow(clippy::disallowed_methods, reason = "a build script is told where it may write by the environment")]

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
    // rustc names the shared library; what is found by that name first leads to the static one.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = std::fs::write(out.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n") {
        println!("cargo::error=cannot write to {}: {error}", out.display());
    }
    println!("cargo::rustc-link-arg-bins=-L{}", out.display());
}
