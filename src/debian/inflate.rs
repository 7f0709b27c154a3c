//! The compression formats of archives and packages; the memory of decoders is bounded.

use crate::model::bounds::debian as limits;
use std::io::{self, Read};

/// Decompresses a stream in the format that the ending of its name says; the decoder's memory is bounded.
///
/// # Errors
/// Fails when the ending is not known, or when the decoder cannot be made.
pub fn inflate<'a>(ending: &str, from: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match ending {
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(limits::XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(from, stream))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::new(from)?;
            decoder.window_log_max(limits::ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(from)),
        "" => Box::new(from),
        other => return Err(io::Error::other(format!("it is compressed as `{other}`, which is not supported"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_remember_no_more_than_they_may() {
        // The stream itself gives the dictionary's size: this one asks for 256 MiB.
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(256 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new_stream(&b"x"[..], stream).read_to_end(&mut packed).unwrap();
        assert!(io::copy(&mut inflate(".xz", &packed[..]).unwrap(), &mut io::sink()).is_err());
        let mut large = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        large.window_log(28).unwrap();
        large.include_contentsize(false).unwrap();
        io::copy(&mut io::repeat(0).take(300 << 20), &mut large).unwrap();
        let large = large.finish().unwrap();
        assert!(io::copy(&mut inflate(".zst", &large[..]).unwrap(), &mut io::sink()).is_err());
        assert!(inflate(".lzma", &b""[..]).is_err());
    }
}
