//! gzip on all cores: a stream is cut into blocks of equal size, and each becomes a gzip member of its own (RFC 1952, 2.2).
//!
//! The output depends on the input bytes alone: it contains no name and no time, and does not depend on the number of cores.

use libdeflater::{CompressionLvl, Compressor};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The size of a block.
const BLOCK: usize = 1 << 20;
/// The compression level: the output is as small as at zlib's level 3, in a third of the time; higher levels save little more.
const LEVEL: i32 = 1;

/// A compressed block.
type Packed = io::Result<Vec<u8>>;

/// Compresses what `produce` writes, and writes it to `out`. Producing, compressing and writing happen at the same time.
///
/// # Errors
/// Fails when `produce` fails or `out` cannot be written.
pub fn gzip<W: Write + Send>(mut out: W, produce: impl FnOnce(&mut Blocks) -> io::Result<()>) -> io::Result<W> {
    let cores = crate::sys::cores().min(16);
    // `order` keeps the order of the blocks: the writer waits for one after the other, whichever thread compresses them.
    let (order, ordered) = sync_channel::<Receiver<Packed>>(cores * 4);
    let (work, waiting) = channel::<(Vec<u8>, Sender<Packed>)>();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((block, packed)) = next else { return };
                    // Once writing has failed, nobody receives it.
                    let _ = packed.send(pack(&block));
                }
            });
        }
        let writer = scope.spawn(move || {
            for packed in ordered {
                out.write_all(&packed.recv().map_err(io::Error::other)??)?;
            }
            Ok(out)
        });
        let mut blocks = Blocks { block: Vec::with_capacity(BLOCK), begun: false, order, work };
        let produced = produce(&mut blocks).and_then(|()| blocks.end());
        drop(blocks);
        // If writing failed, `produce` failed because of that: the writer's error is reported first.
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and_then(|out| produced.map(|()| out))
    })
}

fn pack(block: &[u8]) -> Packed {
    let level = CompressionLvl::new(LEVEL).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut compressor = Compressor::new(level);
    let mut packed = vec![0; compressor.gzip_compress_bound(block.len())];
    let length = compressor.gzip_compress(block, &mut packed).map_err(io::Error::other)?;
    packed.truncate(length);
    Ok(packed)
}

/// The writer that takes the data to compress.
pub struct Blocks {
    block: Vec<u8>,
    /// Whether any block was passed on: an empty stream also needs one member.
    begun: bool,
    order: SyncSender<Receiver<Packed>>,
    work: Sender<(Vec<u8>, Sender<Packed>)>,
}

impl Blocks {
    fn pass_on(&mut self, next: Vec<u8>) -> io::Result<()> {
        let gone = |_| io::Error::other("what was compressed cannot be written");
        let (packed, waited_for) = channel();
        self.order.send(waited_for).map_err(|error| gone(error.to_string()))?;
        self.begun = true;
        let block = std::mem::replace(&mut self.block, next);
        self.work.send((block, packed)).map_err(|error| gone(error.to_string()))
    }

    fn end(&mut self) -> io::Result<()> {
        if self.begun && self.block.is_empty() { Ok(()) } else { self.pass_on(Vec::new()) }
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.pass_on(Vec::with_capacity(BLOCK))?;
        }
        let length = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..length]);
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
        let packed = [1 << 20, 77_777]
            .map(|piece| gzip(Vec::new(), |out| text.chunks(piece).try_for_each(|bytes| out.write_all(bytes))).unwrap());
        assert_eq!(packed[0], packed[1]);
        let mut found = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[0][..]).read_to_end(&mut found).unwrap();
        assert_eq!(found, text);
        let mut nothing = Vec::new();
        let packed = gzip(Vec::new(), |_| Ok(())).unwrap();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_disk_that_fills_ends_it_with_its_cause() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let failed = gzip(Full, |out| (0..1000).try_for_each(|_| out.write_all(&[7; BLOCK]))).err().unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        let failed = gzip(Vec::new(), |_| Err(io::ErrorKind::NotFound.into())).err().unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::NotFound);
    }
}
