//! Content codings: the three a file is sent in, and which of them a request wants (RFC 9110, section 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// How the bytes of a file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// `gzip`.
    Gzip,
    /// `br`.
    Brotli,
}

impl Coding {
    /// All of them; each one's number is its place here.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Gzip, Self::Brotli];

    /// What stands in `Content-Encoding`, and in the `encoding` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    /// What the name of a file that build tools packed ends in.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => ".gz",
            Self::Brotli => ".br",
        }
    }
}

/// How much a request wants each coding; 0 is not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted([u16; 3]);

/// `identity` where nothing is said of it: acceptable, below everything that is asked for.
const UNSAID: u16 = 1;

impl Accepted {
    /// What the request says. One that says nothing gets what every client can read.
    pub(super) fn of(request: &HeaderMap) -> Self {
        let mut said: [Option<u16>; 3] = [None; 3];
        let mut others = None;
        for line in request.get_all(ACCEPT_ENCODING) {
            for element in line.as_bytes().split(|&byte| byte == b',') {
                let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
                let name = parts.next().unwrap_or_default();
                let weight = weight(parts);
                if name == b"*" {
                    others = Some(weight);
                } else if let Some(coding) = named(name) {
                    said[coding as usize] = Some(weight);
                }
            }
        }
        let packed = |coding: Coding| said[coding as usize].or(others).unwrap_or(0);
        // `*` speaks of identity only to forbid it: who takes anything is glad of fewer bytes.
        let unsaid = if others == Some(0) { 0 } else { UNSAID };
        Self([
            said[Coding::Identity as usize].unwrap_or(unsaid),
            packed(Coding::Gzip),
            packed(Coding::Brotli),
        ])
    }

    pub(super) fn takes(self, coding: Coding) -> bool {
        self.0[coding as usize] > 0
    }

    /// The coding wanted most among those on offer; of two wanted equally the smaller one.
    pub(super) fn best(self, on_offer: impl Fn(Coding) -> bool) -> Option<Coding> {
        // The last of several equal ones wins.
        Coding::ALL
            .into_iter()
            .filter(|&coding| self.takes(coding) && on_offer(coding))
            .max_by_key(|&coding| self.0[coding as usize])
    }
}

fn named(name: &[u8]) -> Option<Coding> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    // Section 8.4.1.3: the two are one.
    if is("x-gzip") {
        return Some(Coding::Gzip);
    }
    Coding::ALL.into_iter().find(|coding| is(coding.as_str()))
}

/// Twice the thousandths of `q=`, so that [`UNSAID`] is below the smallest; 0 for a weight that is none, for
/// nobody may be sent what he may not have asked for.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
    let given = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    given.map_or(Some(1_000), thousandths).map_or(0, |thousandths| 2 * thousandths)
}

/// `0`, `1`, `0.123`, `1.000` (section 12.4.2).
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &text[..0]),
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let [whole] = *whole else { return None };
    let mut sum = digit(whole)?;
    for place in 0..3 {
        sum = sum * 10 + fraction.get(place).map_or(Some(0), |&byte| digit(byte))?;
    }
    (fraction.len() <= 3 && sum <= 1_000).then_some(sum)
}

#[cfg(test)]
#[path = "coding_tests.rs"]
mod tests;
