//! Numbers of bytes, as they are typed and as they are shown.

/// A number of bytes: `1000000`, `512M`, `2.5G`, with units of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("`{text}` is no number of bytes; say `1000000`, `512M` or `2.5G`");
    let (number, unit) = match text.find(|digit: char| digit.is_ascii_alphabetic()) {
        Some(place) => text.split_at(place),
        None => (text, ""),
    };
    let power = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(refused()),
    };
    let number: f64 = number.trim().parse().map_err(|_| refused())?;
    if number.is_finite() && number >= 0.0 { Ok((number * 1024_f64.powi(power)) as u64) } else { Err(refused()) }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
