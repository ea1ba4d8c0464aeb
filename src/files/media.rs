//! The type of a file by its last extension: what App Engine's SDK gives, on every machine the same.
//!
//! The SDK asks Python's `mimetypes`, which asks the machine; here nothing is asked. Where Python's own table, or the
//! types the SDK adds to it, differ from the table of the `mime_guess` crate, they win; where they say nothing, the
//! crate does, put right for a few types of the web. No charset is added: that is the app's to say (`mime_type`).

/// What a file without a known extension is.
const UNKNOWN: &str = "application/octet-stream";

/// The type of the file with this path. `x.tar.gz` is what `x.gz` is.
pub(super) fn of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    // A name that only begins with a dot has no extension.
    let Some((_, extension)) = name.trim_start_matches('.').rsplit_once('.') else { return UNKNOWN };
    let extension = extension.to_ascii_lowercase();
    python(&extension).or_else(|| web(&extension)).unwrap_or_else(|| {
        let guess = mime_guess::from_ext(&extension);
        guess.first_raw().unwrap_or(UNKNOWN)
    })
}

/// Whether what a `Content-Type` names is written in letters, so that packing it pays.
pub(super) fn is_text(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/json"
                | "application/xml"
                | "application/dart"
        )
}

/// Where the SDK, or Python's own table, says otherwise than the crate.
fn python(extension: &str) -> Option<&'static str> {
    Some(match extension {
        // The SDK's additions. The names are old, and every browser knows them.
        "dart" => "application/dart",
        "gss" => "text/css",
        "ng" => "text/html",
        "ttf" => "application/x-font-ttf",
        "woff" => "application/font-woff",
        "woff2" => "application/font-woff2",
        // Python's, as of 3.12: RFC 9239 made `text/javascript` the one name.
        "js" | "mjs" => "text/javascript",
        "3g2" | "3gpp2" => "audio/3gpp2",
        "3gp" | "3gpp" => "audio/3gpp",
        "a" | "dll" | "o" | "obj" => UNKNOWN,
        "aif" | "aifc" | "aiff" => "audio/x-aiff",
        "ass" | "loas" => "audio/aac",
        "bat" | "ksh" | "pl" | "srt" => "text/plain",
        "cdf" => "application/x-netcdf",
        "h5" => "application/x-hdf5",
        "ico" => "image/vnd.microsoft.icon",
        "m3u" | "m3u8" => "application/vnd.apple.mpegurl",
        "mif" => "application/x-mif",
        "opus" => "audio/opus",
        "py" => "text/x-python",
        "pyc" | "pyo" => "application/x-python-code",
        "ram" => "application/x-pn-realaudio",
        "rdf" | "wsdl" | "xpdl" | "xsl" => "application/xml",
        "sgm" | "sgml" => "text/x-sgml",
        "wav" => "audio/x-wav",
        "xlb" => "application/vnd.ms-excel",
        _ => return None,
    })
}

/// Types of the web that neither of the two tables has right.
fn web(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "map" => "application/json",
        "m4a" => "audio/mp4",
        "m4v" => "video/mp4",
        "otf" => "font/otf",
        "rpm" => "application/x-rpm",
        "tgz" => "application/gzip",
        "ts" => "video/mp2t",
        "zst" => "application/zstd",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "media_tests.rs"]
mod tests;
