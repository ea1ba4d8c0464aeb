//! Numbers as Python reads them from YAML 1.1 and writes them back.
//!
//! Integers have no bound in Python; what does not fit 64 bits is handed on as its decimal digits.

use serde_yaml::Value;

use super::code;

/// Python refuses to print an integer with more decimal digits than this.
const MOST_DIGITS: usize = 4300;

/// An integer that the resolver's expression has accepted (underscores and a sign may be in it).
pub(super) fn int(text: &str, old: bool) -> Result<Value, String> {
    let (negative, digits) = unsigned(text);
    let (base, digits) = match digits.get(..2) {
        Some("0b") => (2, &digits[2..]),
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if old && digits.starts_with('0') => (8, digits.as_str()),
        _ => (10, digits.as_str()),
    };
    let mut sum = Decimal::default();
    if old && base == 10 && digits.contains(':') {
        for part in digits.split(':') {
            let mut piece = Decimal::default();
            piece.read(part, 10)?;
            sum.times_plus(60, 0);
            sum.add(&piece);
        }
    } else {
        sum.read(digits, base)?;
    }
    Ok(sum.value(negative))
}

/// A float that the resolver's expression has accepted.
pub(super) fn float(text: &str, old: bool) -> Result<Value, String> {
    let (negative, digits) = unsigned(&text.to_lowercase());
    let number = |part: &str| part.parse::<f64>().map_err(|_| format!("{} is not a number", code(text)));
    let size = match digits.as_str() {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if old && digits.contains(':') => {
            let (mut sum, mut base) = (0.0, 1.0);
            for part in digits.rsplit(':') {
                sum += number(part)? * base;
                base *= 60.0;
            }
            sum
        }
        _ => number(&digits)?,
    };
    Ok(Value::from(if negative { -size } else { size }))
}

/// Without underscores and sign; true when the sign was a minus.
fn unsigned(text: &str) -> (bool, String) {
    let plain = text.replace('_', "");
    let negative = plain.starts_with('-');
    let digits = plain.strip_prefix(['+', '-']).map_or(plain.clone(), ToOwned::to_owned);
    (negative, digits)
}

/// `repr()` of a Python float.
pub(in crate::appyaml) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let mut scientific = format!("{number:e}");
    let decimals = scientific.bytes().filter(u8::is_ascii_digit).count();
    let decimals =
        decimals - scientific.split('e').nth(1).map_or(0, |exponent| exponent.trim_start_matches('-').len());
    // Of two shortest texts that mean the same number, Python takes the nearer one, and the even one of two as near.
    let decimals = decimals.saturating_sub(1);
    let nearer = format!("{number:.decimals$e}");
    if nearer.parse() == Ok(number) {
        scientific = nearer;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return positional(mantissa, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `1.25` and 1 to `12.5`.
fn positional(mantissa: &str, exponent: i32) -> String {
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let digits = digits.replace('.', "");
    let Ok(point) = usize::try_from(exponent) else {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    };
    let width = point + 1;
    let whole = format!("{digits:0<width$}");
    let (whole, fraction) = whole.split_at(width);
    format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
}

/// A natural number in limbs of nine decimal digits, the lowest first.
#[derive(Default)]
struct Decimal(Vec<u32>);

impl Decimal {
    const LIMB: u64 = 1_000_000_000;

    fn read(&mut self, digits: &str, base: u32) -> Result<(), String> {
        if digits.is_empty() {
            return Err("a number without digits".to_owned());
        }
        for digit in digits.chars() {
            let digit = digit.to_digit(base).ok_or_else(|| format!("`{digit}` is not a digit here"))?;
            self.times_plus(base, digit);
            if self.0.len() > MOST_DIGITS / 9 + 1 {
                return Err(format!("a number of more than {MOST_DIGITS} digits"));
            }
        }
        Ok(())
    }

    fn times_plus(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for limb in &mut self.0 {
            let sum = u64::from(*limb) * u64::from(factor) + carry;
            *limb = u32::try_from(sum % Self::LIMB).unwrap_or(0);
            carry = sum / Self::LIMB;
        }
        if carry > 0 {
            self.0.push(u32::try_from(carry).unwrap_or(0));
        }
    }

    fn add(&mut self, other: &Self) {
        let mut carry = 0;
        for place in 0..other.0.len().max(self.0.len()) {
            if place == self.0.len() {
                self.0.push(0);
            }
            let sum = u64::from(self.0[place]) + u64::from(other.0.get(place).copied().unwrap_or(0)) + carry;
            self.0[place] = u32::try_from(sum % Self::LIMB).unwrap_or(0);
            carry = sum / Self::LIMB;
        }
        if carry > 0 {
            self.0.push(u32::try_from(carry).unwrap_or(0));
        }
    }

    fn value(&self, negative: bool) -> Value {
        let mut text = String::new();
        for (place, limb) in self.0.iter().rev().enumerate() {
            text.push_str(&if place == 0 { limb.to_string() } else { format!("{limb:09}") });
        }
        if text.is_empty() {
            return Value::from(0);
        }
        if negative {
            text.insert(0, '-');
        }
        text.parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .unwrap_or(Value::String(text))
    }
}
