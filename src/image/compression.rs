//! Decompresses streams, and counts the bytes on both sides: compressed bytes in, decompressed bytes out.

use crate::model::Budget;
use crate::model::bounds::image::{ARCHIVE, XZ_MEMORY, ZSTD_WINDOW};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

/// The compressions that are recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// How a stream is compressed, if it is, told by its first bytes.
pub fn compression(start: &[u8]) -> Option<Compression> {
    let marks: [(&[u8], Compression); 4] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (b"BZh", Compression::Bzip2),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    ];
    marks.into_iter().find(|(mark, _)| start.starts_with(mark)).map(|(_, kind)| kind)
}

/// Whether these first bytes are those of an archive that can be unpacked: a tar, plain or compressed.
pub fn is_archive(start: &[u8]) -> bool {
    compression(start).is_some() || start.get(257..262) == Some(b"ustar")
}

/// Decompresses a stream, whichever compression it has.
///
/// # Errors
/// Fails when its beginning cannot be read.
pub fn decompressed<'a>(stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut stream = BufReader::with_capacity(128 << 10, stream);
    Ok(match compression(stream.fill_buf()?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        Some(Compression::Xz) => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder))
        }
        Some(Compression::Zstd) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        None => Box::new(stream),
    })
}

/// Decompresses a stream within a budget: the compressed bytes are reported to the budget, and the stream ends in an
/// error when it gives far more bytes than it took in.
///
/// # Errors
/// Fails when its beginning cannot be read.
pub fn budgeted<'a>(stream: impl Read + Send + 'a, budget: &Arc<Budget>) -> io::Result<Box<dyn Read + Send + 'a>> {
    let inner = decompressed(Came { inner: stream, budget: budget.clone() })?;
    Ok(Box::new(Made { inner, length: 0, budget: budget.clone() }))
}

/// The compressed side: reports to the budget what comes in.
struct Came<R> {
    inner: R,
    budget: Arc<Budget>,
}

impl<R: Read> Read for Came<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.budget.came(length as u64);
        Ok(length)
    }
}

/// The decompressed side: fails when it gives more than the budget allows.
struct Made<R> {
    inner: R,
    length: u64,
    budget: Arc<Budget>,
}

impl<R: Read> Read for Made<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.length = self.length.saturating_add(length as u64);
        if self.length > self.budget.allowance() { Err(self.budget.too_long().into()) } else { Ok(length) }
    }
}

/// How many bytes a complete archive of this compressed length may unpack to.
pub fn allowance(compressed: u64) -> u64 {
    let budget = Budget::new(ARCHIVE);
    budget.came(compressed);
    budget.allowance()
}

/// A stream that ends in an error when it gives far more bytes than its compressed form has.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Bounds how many bytes a compressed stream of this length may give.
    pub fn new(inner: R, compressed: u64) -> Self {
        Self { inner, left: allowance(compressed) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| Budget::new(ARCHIVE).too_long())?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Floor;
    use std::io::Write;

    #[test]
    fn what_fills_disks_is_cut_off() {
        let mut bounded = Bounded { inner: io::repeat(0), left: 1 << 20 };
        assert!(io::copy(&mut bounded, &mut io::sink()).unwrap_err().to_string().contains("fill disks"));
        let budget = Arc::new(Budget::new(Floor { bytes: 1 << 20, entries: 1, names: 1 }));
        let zeros = zstd::encode_all(io::repeat(0).take(64 << 20), 1).unwrap();
        let mut stream = budgeted(&zeros[..], &budget).unwrap();
        assert!(io::copy(&mut stream, &mut io::sink()).unwrap_err().to_string().contains("fill disks"));
    }

    #[test]
    fn a_stream_does_not_say_how_much_memory_it_gets() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 30);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new_stream(&b"x"[..], stream).read_to_end(&mut packed).unwrap();
        assert!(io::copy(&mut decompressed(&packed[..]).unwrap(), &mut io::sink()).is_err());
    }

    #[test]
    fn every_compression_is_known_by_its_first_bytes() {
        let plain = b"x".repeat(3000);
        let gzip = {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&plain).unwrap();
            out.finish().unwrap()
        };
        let bzip2 = {
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            out.write_all(&plain).unwrap();
            out.finish().unwrap()
        };
        for bytes in [gzip, bzip2, zstd::encode_all(&plain[..], 1).unwrap(), plain.clone()] {
            let mut found = Vec::new();
            decompressed(&bytes[..]).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, plain);
        }
    }
}
