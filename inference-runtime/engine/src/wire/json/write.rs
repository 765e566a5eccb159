//! Single values as JSON text, appended to a buffer.

use std::io::Write as _;

/// Appends a string with its quotes and escapes.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every write, and a str is always representable");
}

/// Appends a number; what JSON proper cannot say is written as Python and `RapidJSON` read it: `NaN`, `Infinity`.
pub(crate) fn float32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        // Through serde_json: the shortest text that reads back as the same f32.
        serde_json::to_writer(out, &value).expect("a Vec takes every write");
    } else {
        special(out, value.into());
    }
}

/// As [`float32`].
pub(crate) fn float64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        serde_json::to_writer(out, &value).expect("a Vec takes every write");
    } else {
        special(out, value);
    }
}

fn special(out: &mut Vec<u8>, value: f64) {
    let text = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    out.write_all(text.as_bytes()).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f32) -> String {
        let mut out = Vec::new();
        float32(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_read_back_as_the_same_bits() {
        for value in [0.0, -0.0, 1.5, 0.1, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::MIN] {
            assert_eq!(
                text(value).parse::<f32>().unwrap().to_bits(),
                value.to_bits(),
                "{value}"
            );
        }
    }

    #[test]
    fn what_json_lacks_is_written_as_python_reads_it() {
        assert_eq!(text(f32::NAN), "NaN");
        assert_eq!(text(f32::INFINITY), "Infinity");
        assert_eq!(text(f32::NEG_INFINITY), "-Infinity");
    }
}
