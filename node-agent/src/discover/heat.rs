//! Temperature, with a memory: a card that was too hot must cool down properly before it is used again.

/// Degrees Celsius from which a card is called hot: it still serves, the node is degraded.
const HOT: f64 = 85.0;
/// Degrees Celsius from which a card serves no more.
const STOP: f64 = 95.0;
/// How far below a limit it must fall for the limit to be forgotten.
const HYSTERESIS: f64 = 10.0;

/// How hot a card is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heat {
    /// As it should be.
    #[default]
    Fine,
    /// Worth a look at its fans.
    Hot,
    /// Not to be used.
    Stop,
}

impl Heat {
    /// The state after a reading. A card without a sensor is fine; one that was too hot and says nothing more may still be.
    #[must_use]
    pub(super) fn next(self, temperature: Option<f64>) -> Self {
        let Some(now) = temperature else {
            return if self == Self::Stop { self } else { Self::Fine };
        };
        let over = |limit: f64, already: bool| now >= if already { limit - HYSTERESIS } else { limit };
        if over(STOP, self == Self::Stop) {
            Self::Stop
        } else if over(HOT, self >= Self::Hot) {
            Self::Hot
        } else {
            Self::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_was_too_hot_comes_back_only_when_it_has_cooled_down() {
        use Heat::{Fine, Hot, Stop};
        let mut heat = Fine;
        for (degrees, is) in [
            (60.0, Fine),
            (84.9, Fine),
            (85.0, Hot),
            (80.0, Hot),
            (75.0, Hot),
            (74.9, Fine),
            (95.0, Stop),
            (86.0, Stop),
            (85.0, Stop),
            (84.9, Hot),
            (94.9, Hot),
            (120.0, Stop),
            (20.0, Fine),
        ] {
            heat = heat.next(Some(degrees));
            assert_eq!(heat, is, "at {degrees}");
        }
        assert_eq!(Fine.next(None), Fine, "no sensor, no judgement");
        assert_eq!(Stop.next(None), Stop, "silence is no cooling");
    }
}
