//! What git's objects are: their ids and kinds, and what has them.

use crate::model::Budget;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// The id of an object: its SHA-1.
pub type Id = [u8; 20];

/// The kind of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

/// What has git's objects: a pack, or a repository on this machine.
pub trait Objects {
    /// Returns the content of an object.
    ///
    /// # Errors
    /// Fails when the object is missing, damaged or of another kind.
    fn get(&mut self, id: &Id, wanted: Kind) -> io::Result<Rc<[u8]>>;

    /// Writes a blob to a file, and takes its length from the budget.
    ///
    /// # Errors
    /// As for [`Self::get`]; also fails when the budget is exceeded, or when the file cannot be written.
    fn write_blob(&mut self, id: &Id, to: &mut File, budget: &Budget) -> io::Result<()>;
}

/// An id as git writes it.
pub fn hex(id: &Id) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses an id.
pub fn id(text: &str) -> Option<Id> {
    let digits = Some(text).filter(|text| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let mut id = [0; 20];
    for (place, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(id)
}

pub fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
