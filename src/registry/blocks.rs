//! gzip on all cores: a stream in blocks of one size, each a member of its own (RFC 1952, 2.2).
//!
//! What comes of it depends on the bytes alone: no name, no time, no number of cores.

use crate::sys;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// How much is compressed by itself.
const BLOCK: usize = 1 << 20;
/// How hard: beyond this it takes far longer and saves little.
const LEVEL: u32 = 3;

/// Compresses what is written to it.
pub struct Blocks<W> {
    out: W,
    /// Blocks that are full, and the one that is being filled.
    blocks: Vec<Vec<u8>>,
    at_once: usize,
}

impl<W: Write> Blocks<W> {
    pub fn new(out: W) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        Self { out, blocks: vec![Vec::with_capacity(BLOCK)], at_once: cores * 4 }
    }

    fn compress(&mut self) -> io::Result<()> {
        let done = Mutex::new(vec![Vec::new(); self.blocks.len()]);
        sys::on_all_cores(&self.blocks, 1, |index, part| {
            for block in part {
                let mut encoder = GzEncoder::new(Vec::with_capacity(BLOCK / 2), Compression::new(LEVEL));
                encoder.write_all(block)?;
                let packed = encoder.finish()?;
                done.lock().unwrap_or_else(PoisonError::into_inner)[index] = packed;
            }
            Ok::<(), io::Error>(())
        })?;
        self.blocks.clear();
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.iter().try_for_each(|packed| self.out.write_all(packed))
    }

    /// Writes what is left; the inner writer comes back.
    pub fn finish(mut self) -> io::Result<W> {
        self.compress()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            if self.blocks.len() >= self.at_once {
                self.compress()?;
            }
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let Some(block) = self.blocks.last_mut() else { return Ok(0) };
        let length = bytes.len().min(BLOCK - block.len());
        block.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn any_reader_of_gzip_reads_it_and_pieces_do_not_matter() {
        let text: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut packed = Vec::new();
        for piece in [1 << 20, 77_777] {
            let mut blocks = Blocks::new(Vec::new());
            text.chunks(piece).for_each(|bytes| blocks.write_all(bytes).unwrap());
            packed.push(blocks.finish().unwrap());
        }
        assert_eq!(packed[0], packed[1]);
        let mut found = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[0][..]).read_to_end(&mut found).unwrap();
        assert_eq!(found, text);
        let mut nothing = Vec::new();
        flate2::read::MultiGzDecoder::new(&Blocks::new(Vec::new()).finish().unwrap()[..]).read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }
}
