//! The table against Python's own, and what a path's extension is.

use super::of;

/// Python's `mimetypes` without the machine's files: a type and its extensions.
const PYTHON: &str = "
application/json: json; application/manifest+json: webmanifest; application/msword: doc dot wiz;
application/n-quads: nq; application/n-triples: nt; application/octet-stream: a bin dll exe o obj so;
application/oda: oda; application/pdf: pdf; application/pkcs7-mime: p7c; application/postscript: ai eps ps;
application/trig: trig; application/vnd.apple.mpegurl: m3u m3u8; application/vnd.ms-excel: xlb xls;
application/vnd.ms-powerpoint: pot ppa pps ppt pwz; application/wasm: wasm; application/x-bcpio: bcpio;
application/x-cpio: cpio; application/x-csh: csh; application/x-dvi: dvi; application/x-gtar: gtar;
application/x-hdf: hdf; application/x-hdf5: h5; application/x-latex: latex; application/x-mif: mif;
application/x-netcdf: cdf nc; application/x-pkcs12: p12 pfx; application/x-pn-realaudio: ram;
application/x-python-code: pyc pyo; application/x-sh: sh; application/x-shar: shar;
application/x-shockwave-flash: swf; application/x-sv4cpio: sv4cpio; application/x-sv4crc: sv4crc;
application/x-tar: tar; application/x-tcl: tcl; application/x-tex: tex; application/x-texinfo: texi texinfo;
application/x-troff: roff t tr; application/x-troff-man: man; application/x-troff-me: me;
application/x-troff-ms: ms; application/x-ustar: ustar; application/x-wais-source: src; application/xml: rdf
wsdl xpdl xsl; application/zip: zip; audio/3gpp: 3gp 3gpp; audio/3gpp2: 3g2 3gpp2; audio/aac: aac adts ass
loas; audio/basic: au snd; audio/mpeg: mp2 mp3; audio/opus: opus; audio/x-aiff: aif aifc aiff;
audio/x-pn-realaudio: ra; audio/x-wav: wav; image/avif: avif; image/bmp: bmp; image/gif: gif; image/heic:
heic; image/heif: heif; image/ief: ief; image/jpeg: jpe jpeg jpg; image/png: png; image/svg+xml: svg;
image/tiff: tif tiff; image/vnd.microsoft.icon: ico; image/x-cmu-raster: ras; image/x-portable-anymap: pnm;
image/x-portable-bitmap: pbm; image/x-portable-graymap: pgm; image/x-portable-pixmap: ppm; image/x-rgb: rgb;
image/x-xbitmap: xbm; image/x-xpixmap: xpm; image/x-xwindowdump: xwd; message/rfc822: eml mht mhtml nws;
text/css: css; text/csv: csv; text/html: htm html; text/javascript: js mjs; text/n3: n3; text/plain: bat c h
ksh pl srt txt; text/richtext: rtx; text/tab-separated-values: tsv; text/vtt: vtt; text/x-python: py;
text/x-setext: etx; text/x-sgml: sgm sgml; text/x-vcard: vcf; text/xml: xml; video/mp4: mp4; video/mpeg: m1v
mpa mpe mpeg mpg; video/quicktime: mov qt; video/webm: webm; video/x-msvideo: avi; video/x-sgi-movie: movie;
";

/// The SDK's additions, and what Python does not know.
const OTHERS: &str = "
application/dart: dart; text/css: gss; text/html: ng; application/x-font-ttf: ttf; application/font-woff: woff;
application/font-woff2: woff2; font/otf: otf; application/vnd.ms-fontobject: eot; image/webp: webp;
application/gzip: gz tgz; application/json: map; text/markdown: md; application/rss+xml: rss; audio/flac: flac;
application/atom+xml: atom; audio/ogg: ogg oga; video/ogg: ogv; audio/mp4: m4a; application/zstd: zst;
application/vnd.openxmlformats-officedocument.wordprocessingml.document: docx;
";

#[track_caller]
fn check(table: &str) {
    for line in table.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let (media, extensions) = line.split_once(':').unwrap();
        for extension in extensions.split_ascii_whitespace() {
            assert_eq!(of(&format!("static/name.{extension}")), media, "{extension}");
        }
    }
}

#[test]
fn every_type_python_knows_is_the_same_here() {
    check(PYTHON);
}

#[test]
fn the_sdk_s_additions_and_the_types_of_the_web_are_known() {
    check(OTHERS);
}

#[test]
fn only_the_last_extension_counts_in_any_case() {
    assert_eq!(of("a/x.tar.gz"), "application/gzip");
    assert_eq!(of("a.css/LOGO.PnG"), "image/png");
    assert_eq!(of("a.min.js"), "text/javascript");
}

#[test]
fn what_has_no_known_extension_is_plain_bytes() {
    for path in ["noext", "dir.css/noext", ".css", "..css", "a.", "a.unheard-of", "", "a.css/"] {
        assert_eq!(of(path), "application/octet-stream", "{path}");
    }
}
