//! Sizes as people write and read them: `4K`, `1M`, `2G`, `1T`.

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Reads a number of bytes, as media are sized in URIs.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    freehold_engine::uri::parse_size(text).map_err(|error| error.to_string())
}

/// Writes a number of bytes for people: at most three digits and a unit.
pub(crate) fn show(bytes: u64) -> String {
    let Some((name, shift)) = UNITS.iter().rev().find(|(_, shift)| bytes >> shift != 0) else {
        return format!("{bytes} B");
    };
    let value = bytes as f64 / (1u64 << shift) as f64;
    if bytes.trailing_zeros() >= *shift || value >= 100.0 {
        format!("{value:.0} {name}iB")
    } else {
        format!("{value:.1} {name}iB")
    }
}

/// Writes a duration for people.
pub(crate) fn time(elapsed: std::time::Duration) -> String {
    let ns = elapsed.as_nanos() as f64;
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.1} us", ns / 1e3),
        _ if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// Writes a count with its thousands apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes how many there are of something that takes an s.
pub(crate) fn of(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("4k", 4096),
            ("1M", 1 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "K", "-1", "1.5G", "4KK", "1X", "1 G", "0x10", "16777216T", "99999999999999999999"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(4096), "4 KiB");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(3 << 40), "3 TiB");
        assert_eq!(count(400_000), "400,000");
        assert_eq!(count(12), "12");
        assert_eq!(
            [of(0, "file"), of(1, "file"), of(2000, "file")],
            ["0 files", "1 file", "2,000 files"]
        );
    }
}
