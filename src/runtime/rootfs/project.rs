//! What only the containers of a project have in their root: other images, and files in memory.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use super::{Root, beneath};
use crate::runtime::spec::{Blueprint, FileSpec, ImageSpec};
use crate::sys::{self, Attributes, Depth, Detached, Tree, doing};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The size of a page of memory, or a multiple of it.
const PAGE: usize = 65536;

impl Root {
    /// Mounts secrets and configs: files of a tmpfs that is not visible in the container; each file is bind-mounted on its own.
    pub(super) fn files(&self, blueprint: &Blueprint, contents: &[Vec<u8>]) -> io::Result<()> {
        let beyond = &blueprint.beyond;
        if beyond.files.is_empty() {
            return Ok(());
        }
        // As large as its files, in whole pages: root of the container could otherwise fill the memory through them.
        let pages = contents.iter().map(|content| content.len().div_ceil(PAGE).max(1)).sum::<usize>() + 1;
        let memory = Detached::new("tmpfs", &format!("mode=700,size={}", pages * PAGE), Attributes::QUIET)
            .and_then(|memory| memory.attach(sys::open_folder(&beyond.scratch)?));
        let memory = doing("cannot mount a file system for secrets", memory)?;
        let user = beyond.user.as_ref().map_or("", |user| &user.user);
        for (index, file) in beyond.files.iter().enumerate() {
            let content = contents.get(file.content).ok_or_else(|| io::Error::other("a secret's content did not arrive"))?;
            let made = self.secret(&memory, index, file, content, user);
            doing(&format!("cannot make {}", file.to.display()), made)?;
        }
        sys::unmount(&beyond.scratch)
    }

    fn secret(&self, memory: &OwnedFd, index: usize, file: &FileSpec, content: &[u8], user: &str) -> io::Result<()> {
        let owner = self.identity(file.owner.as_deref().unwrap_or(user), &[])?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut made =
            File::from(nix::fcntl::openat(memory, index.to_string().as_str(), flags, Mode::from_bits_truncate(0o600))?);
        made.write_all(content)?;
        nix::unistd::fchown(&made, Some(owner.uid.into()), Some(owner.gid.into()))?;
        nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(file.mode))?;
        let target = self.file(file.to.strip_prefix("/").unwrap_or(&file.to))?;
        Detached::copy_of(&made, Depth::Top)?.attach(target).map(drop)
    }
}

/// The tree of another image. It is first attached in a temporary place: before Linux 6.15, no part of a detached mount can
/// be copied.
pub(super) fn image(image: &ImageSpec, scratch: &Path) -> io::Result<Detached> {
    // An overlay needs two layers; an empty one below changes nothing.
    let mut lower = image.layers.clone();
    lower.push(scratch.to_owned());
    let aside = scratch.with_file_name("image-mount");
    // The directory is inside one of our own.
    drop(Tree::private(&aside)?);
    let writes = image.writes.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
    sys::mount_overlay(&lower, writes, &aside)?;
    let part = || {
        let source = beneath(sys::open_folder(&aside)?, image.subpath.as_deref())?;
        let tree = Detached::copy_of(&source, Depth::Top)?;
        if writes.is_none() {
            tree.change(Attributes::set(Attributes::READ_ONLY), Depth::Top)?;
        }
        Ok(tree)
    };
    let part = part();
    sys::unmount(&aside)?;
    part
}
