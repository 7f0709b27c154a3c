//! The one kind of machine that images are made for and run on: the one that this program was built for.

/// Its system and architecture, as OCI names them.
pub const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// Its architecture, as OCI and Debian name it.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// The directories that its dynamic linker searches by itself, as Debian builds it (ld.so(8)).
pub const LIBRARIES: [&str; 4] = if cfg!(target_arch = "aarch64") {
    ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib"]
} else {
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"]
};
