//! Numbers of bytes, as people write them.

/// Parses a number of bytes: `100000`, `3M`, `256MiB`, `5GB`.
///
/// `K`, `M`, `G` and `KiB`, `MiB`, `GiB` are powers of 1024, and `KB`, `MB`, `GB` of 1000, as in dd(1) and head(1); in upper or lower case.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(not_a_number()),
    };
    if number.is_empty() {
        return Err(not_a_number());
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| "more bytes than can be counted".to_owned())
}

/// As [`parse`], for an amount of which there has to be some.
///
/// # Errors
/// As [`parse`], and for 0.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("at least one byte has to go".to_owned()),
        bytes => Ok(bytes),
    }
}

fn not_a_number() -> String {
    "not a number of bytes; write for example 100000, 64K, 3MiB or 2G".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_means_what_it_does_elsewhere() {
        for (text, bytes) in [
            ("0", 0),
            ("100000", 100_000),
            ("7b", 7),
            ("3K", 3 << 10),
            ("3k", 3 << 10),
            ("3KiB", 3 << 10),
            ("3kB", 3_000),
            ("256M", 256 << 20),
            ("256MiB", 256 << 20),
            ("256MB", 256_000_000),
            ("2G", 2 << 30),
            ("2gib", 2 << 30),
            ("2GB", 2_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_told_from_too_much() {
        for text in ["", "nonsense", "M", "-1", "+1", "1.5M", "1 M", " 1", "3T", "3MM", "٣"] {
            assert_eq!(parse(text), Err(not_a_number()), "{text}");
        }
        for text in ["18446744073709551616", "18446744073709551615K", "99999999999999999999999G"] {
            assert_eq!(parse(text), Err("more bytes than can be counted".to_owned()), "{text}");
        }
        assert_eq!(parse_positive("0K"), Err("at least one byte has to go".to_owned()));
        assert_eq!(parse_positive("1"), Ok(1));
    }
}
