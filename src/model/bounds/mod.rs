//! The limits on input from outside, and the table of them in the manual.
//!
//! This is the one list for all rooms. Code that reads foreign bytes takes its limit from here, and the limit gets a
//! row in [`TABLE`].

pub mod debian;
pub mod fetch;
pub mod git;
pub mod image;

use std::fmt;

/// How much of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    Bytes(u64),
    Count(u64, &'static str),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if *bytes >= 1 << 30 && bytes % (1 << 30) == 0 => write!(f, "{} GiB", bytes >> 30),
            Self::Bytes(bytes) if *bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            Self::Bytes(bytes) if *bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::Count(count, what) => write!(f, "{count} {what}"),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub what: &'static str,
    pub limit: Amount,
    /// What happens above the limit.
    pub beyond: &'static str,
}

/// The longest project file or included file, in bytes.
pub const PROJECT_FILE: u64 = 1 << 20;
/// The longest Dockerfile, in bytes.
pub const DOCKERFILE: u64 = 1 << 20;
/// The most text of all Dockerfiles in a project, in bytes, and the most instructions in them; a Dockerfile that is
/// used for several images counts for each.
pub const DOCKERFILES: usize = 8 << 20;
pub const INSTRUCTIONS: usize = 10_000;
/// The most stages of one Dockerfile.
pub const STAGES: usize = 200;
/// The most bytes in the variables and arguments of a stage.
pub const VARIABLES: usize = 1 << 20;
/// The longest `stead.lock`, in bytes: enough for some fifteen thousand packages.
pub const LOCK_FILE: u64 = 4 << 20;
/// The longest user configuration file, in bytes.
pub const CONFIG_FILE: u64 = 1 << 20;
/// The longest ignore file, in bytes.
pub const IGNORE_FILE: u64 = 1 << 20;
/// The most patterns of one ignore file.
pub const IGNORE_PATTERNS: usize = 10_000;
/// The longest pattern, and the longest path, in bytes: `PATH_MAX` of Linux, whose last byte is a NUL.
pub const PATTERN: usize = 4095;
/// The longest file of environment variables, in bytes.
pub const ENV_FILE: u64 = 1 << 20;
/// The longest secret or config, in bytes.
pub const CONTENT: u64 = 16 << 20;
/// The longest system call filter or key, in bytes.
pub const SMALL_FILE: u64 = 1 << 20;
/// The most files of a project: its main file and the included ones.
pub const INCLUDES: usize = 256;
/// The most text in all files of a project, in bytes.
pub const PROJECT_TEXT: usize = 4 << 20;
/// The most nodes and values in one file of KDL that people write.
pub const PROJECT_PARTS: usize = 20_000;
/// The most nodes and values in a lock file, where each package has eight.
pub const LOCK_PARTS: usize = 200_000;
/// The deepest block in a file of KDL that people write; no node of the language nests half as deep.
pub const NESTING: usize = 32;
/// The deepest block in a lock file, which has two levels.
pub const LOCK_NESTING: usize = 2;
/// How deep parts that are commented out with `/-` may be nested in one another.
pub const TAKEN_OUT: usize = 8;
/// The most text that the substitution of parameters may add to a project, in bytes.
pub const SUBSTITUTED: usize = 16 << 20;
/// The most findings that are reported at once.
pub const FINDINGS: usize = 100;

/// The limits, as the manual shows them.
pub const TABLE: &[Bound] = &[
    Bound {
        what: "a project file, and each file that it includes",
        limit: Amount::Bytes(PROJECT_FILE),
        beyond: "an error: split it",
    },
    Bound { what: "a project's files together", limit: Amount::Count(INCLUDES as u64, "files"), beyond: "`too-many-includes`" },
    Bound {
        what: "the text of a project's files together",
        limit: Amount::Bytes(PROJECT_TEXT as u64),
        beyond: "`too-many-includes`",
    },
    Bound { what: "nested blocks", limit: Amount::Count(NESTING as u64, "levels"), beyond: "`too-deep`" },
    Bound {
        what: "parts that `/-` comments out, nested in one another",
        limit: Amount::Count(TAKEN_OUT as u64, "levels"),
        beyond: "`too-deep`",
    },
    Bound {
        what: "nodes and values of one file",
        limit: Amount::Count(PROJECT_PARTS as u64, "parts"),
        beyond: "`too-many-nodes`",
    },
    Bound { what: "text that parameters insert", limit: Amount::Bytes(SUBSTITUTED as u64), beyond: "`too-much-text`" },
    Bound {
        what: "findings reported at once",
        limit: Amount::Count(FINDINGS as u64, "findings"),
        beyond: "the rest are reported when these are fixed",
    },
    Bound { what: "the stages of a Dockerfile", limit: Amount::Count(STAGES as u64, "stages"), beyond: "an error with the line" },
    Bound {
        what: "the variables and arguments of a stage",
        limit: Amount::Bytes(VARIABLES as u64),
        beyond: "an error with the line",
    },
    Bound {
        what: "text that variables insert into all Dockerfiles",
        limit: Amount::Bytes(SUBSTITUTED as u64),
        beyond: "an error with the line",
    },
    Bound {
        what: "the text of all Dockerfiles, counted for each image",
        limit: Amount::Bytes(DOCKERFILES as u64),
        beyond: "`too-much-text`",
    },
    Bound {
        what: "the instructions of all Dockerfiles, counted for each image",
        limit: Amount::Count(INSTRUCTIONS as u64, "instructions"),
        beyond: "`too-much-text`",
    },
    Bound { what: "a Dockerfile", limit: Amount::Bytes(DOCKERFILE), beyond: "`unreadable`" },
    Bound { what: "`stead.lock`", limit: Amount::Bytes(LOCK_FILE), beyond: "an error" },
    Bound {
        what: "nodes and values of `stead.lock`",
        limit: Amount::Count(LOCK_PARTS as u64, "parts"),
        beyond: "an error with the line",
    },
    Bound { what: "an ignore file", limit: Amount::Bytes(IGNORE_FILE), beyond: "an error; nothing is copied" },
    Bound {
        what: "patterns of an ignore file",
        limit: Amount::Count(IGNORE_PATTERNS as u64, "patterns"),
        beyond: "an error; nothing is copied",
    },
    Bound { what: "a path, or a pattern of paths", limit: Amount::Bytes(PATTERN as u64), beyond: "an error with the line" },
    Bound { what: "an `env-file`", limit: Amount::Bytes(ENV_FILE), beyond: "an error" },
    Bound { what: "the file of a `secret` or `config`", limit: Amount::Bytes(CONTENT), beyond: "an error" },
    Bound { what: "a system call filter, a key", limit: Amount::Bytes(SMALL_FILE), beyond: "an error" },
    Bound { what: "`config.kdl` of a user", limit: Amount::Bytes(CONFIG_FILE), beyond: "an error" },
    Bound { what: "a signed release file of Debian", limit: Amount::Bytes(debian::RELEASE), beyond: "cut off during transfer" },
    Bound {
        what: "an index of packages, unpacked; also no longer than its release file says",
        limit: Amount::Bytes(debian::INDEX),
        beyond: "cut off during transfer",
    },
    Bound {
        what: "a package's files, or 200 times the package's size if that is more",
        limit: Amount::Bytes(debian::UNPACKED_ALWAYS),
        beyond: "cut off while it is unpacked",
    },
    Bound { what: "a package's control files", limit: Amount::Bytes(debian::CONTROL), beyond: "cut off while it is unpacked" },
    Bound { what: "all control files of a step", limit: Amount::Bytes(debian::CONTROLS), beyond: "an error" },
    Bound {
        what: "a user list or a configuration file of an image that is read",
        limit: Amount::Bytes(debian::TEXT),
        beyond: "an error",
    },
    Bound { what: "memory for unpacking xz", limit: Amount::Bytes(image::XZ_MEMORY), beyond: "an error" },
    Bound {
        what: "what a layer or an archive unpacks to, or 200 times the received bytes if that is more",
        limit: Amount::Bytes(image::ARCHIVE.bytes),
        beyond: "cut off while it is unpacked",
    },
    Bound {
        what: "what all layers of an image unpack to, or 200 times the received bytes if that is more",
        limit: Amount::Bytes(image::IMAGE.bytes),
        beyond: "cut off while it is unpacked",
    },
    Bound {
        what: "entries of a layer or an archive; one more for every 8 bytes received, 4,000,000 at most",
        limit: Amount::Count(image::ARCHIVE.entries, "entries"),
        beyond: "cut off while it is unpacked",
    },
    Bound { what: "layers of an image", limit: Amount::Count(image::LAYERS as u64, "layers"), beyond: "an error" },
    Bound {
        what: "a manifest, an index, an image's configuration",
        limit: Amount::Bytes(image::LONGEST),
        beyond: "cut off during transfer",
    },
    Bound {
        what: "the files of a git commit and its submodules, or 200 times the received bytes if that is more",
        limit: Amount::Bytes(git::CHECKOUT.bytes),
        beyond: "cut off while it is written",
    },
    Bound { what: "a pack of a git repository", limit: Amount::Bytes(git::LONGEST_PACK), beyond: "cut off during transfer" },
    Bound { what: "submodules", limit: Amount::Count(git::MODULES as u64, "submodules"), beyond: "an error" },
    Bound {
        what: "a file from the web, if its size is not known",
        limit: Amount::Bytes(fetch::LARGEST),
        beyond: "cut off during transfer",
    },
    Bound { what: "redirects for one file", limit: Amount::Count(fetch::REDIRECTS as u64, "redirects"), beyond: "an error" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_people_write_them() {
        let all = [
            Amount::Bytes(8 << 30),
            Amount::Bytes(16 << 20),
            Amount::Bytes(64 << 10),
            Amount::Bytes(4095),
            Amount::Count(3, "levels"),
        ];
        assert_eq!(all.map(|amount| amount.to_string()), ["8 GiB", "16 MiB", "64 KiB", "4095 bytes", "3 levels"]);
    }
}
