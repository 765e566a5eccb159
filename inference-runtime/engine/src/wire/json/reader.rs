//! A pull reader over one JSON text. It is `Copy`: a copy is a bookmark, so a value whose type is not known yet can be
//! skipped now and read later.

use std::borrow::Cow;

use crate::api::{Error, Result};

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    /// `NaN`, `Infinity` and `-Infinity` included.
    Number,
    Bool,
    Null,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

/// Where the reader stands in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    deepest: usize,
}

impl<'a> Reader<'a> {
    /// Reads `text`, refusing arrays and objects nested deeper than `deepest`: each level costs stack.
    pub(crate) fn new(text: &'a [u8], deepest: usize) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            deepest,
        }
    }

    /// How many bytes are not read yet: a bound on the number of values still to come.
    pub(crate) fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next value's kind; nothing is consumed but white space.
    pub(crate) fn peek(&mut self) -> Result<Kind> {
        self.space();
        match self.text.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("ends where a value is expected")),
        }
    }

    /// Reads an object; `member` is called at each value and must consume it.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<()>,
    ) -> Result<()> {
        self.open(Kind::Object)?;
        if self.close(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.space();
            self.byte(b':', "expected `:` after a key")?;
            member(self, key)?;
            if self.close(b'}') {
                return Ok(());
            }
            self.byte(b',', "expected `,` or `}`")?;
        }
    }

    /// Reads an array; `element` is called at each value and must consume it.
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.open(Kind::Array)?;
        if self.close(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.close(b']') {
                return Ok(());
            }
            self.byte(b',', "expected `,` or `]`")?;
        }
    }

    /// The kind of the first element of the array that comes next; `None` where it is empty. Call it on a copy: it
    /// leaves the reader inside.
    pub(crate) fn first_inside(&mut self) -> Result<Option<Kind>> {
        self.open(Kind::Array)?;
        if self.close(b']') {
            return Ok(None);
        }
        self.peek().map(Some)
    }

    /// Reads a string; borrowed unless it holds escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(Kind::String)?;
        self.at += 1;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    let text = self.utf8(start)?;
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..=0x1f) => return Err(self.error("control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.error("ends inside a string")),
            }
        }
    }

    /// Reads a number and returns its text: each datatype parses it its own way, without a detour through `f64`.
    pub(crate) fn number(&mut self) -> Result<&'a str> {
        self.expect(Kind::Number)?;
        let start = self.at;
        for literal in ["NaN", "Infinity", "-Infinity"] {
            if self.text[start..].starts_with(literal.as_bytes()) {
                self.at += literal.len();
                return self.utf8(start);
            }
        }
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.error("expected a digit")),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digit()?;
        }
        self.utf8(start)
    }

    /// Reads `true` or `false`.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        self.expect(Kind::Bool)?;
        let value = self.text[self.at] == b't';
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Reads `null`.
    pub(crate) fn null(&mut self) -> Result<()> {
        self.expect(Kind::Null)?;
        self.word("null")
    }

    /// Passes over one value of any kind, checking it.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            Kind::Object => self.object(|reader, _| reader.skip()),
            Kind::Array => self.array(Self::skip),
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.null(),
        }
    }

    /// Refuses anything but white space after the value.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.space();
        if self.at < self.text.len() {
            return Err(self.error("goes on after its end"));
        }
        Ok(())
    }

    /// An error at the place where the reader stands.
    pub(crate) fn error(&self, what: &str) -> Error {
        Error::invalid(format!("the JSON body {what}, at byte {}", self.at))
    }

    fn expect(&mut self, kind: Kind) -> Result<()> {
        let found = self.peek()?;
        if found == kind {
            return Ok(());
        }
        Err(self.error(&format!("has {} where {} is expected", found.name(), kind.name())))
    }

    fn open(&mut self, kind: Kind) -> Result<()> {
        self.expect(kind)?;
        self.depth += 1;
        if self.depth > self.deepest {
            return Err(self.error(&format!("is nested deeper than {}", self.deepest)));
        }
        self.at += 1;
        Ok(())
    }

    /// Consumes the end of an array or object, if it comes next.
    fn close(&mut self, end: u8) -> bool {
        self.space();
        let closed = self.text.get(self.at) == Some(&end);
        if closed {
            self.at += 1;
            self.depth -= 1;
        }
        closed
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn byte(&mut self, wanted: u8, or: &str) -> Result<()> {
        if self.text.get(self.at) != Some(&wanted) {
            return Err(self.error(or));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn digit(&mut self) -> Result<()> {
        if !matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            return Err(self.error("expected a digit"));
        }
        self.digits();
        Ok(())
    }

    fn utf8(&self, start: usize) -> Result<&'a str> {
        std::str::from_utf8(&self.text[start..self.at]).map_err(|_| self.error("is not UTF-8"))
    }

    /// The rest of a string that holds escapes; the reader stands at the first of them.
    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut text = self.utf8(start)?.to_owned();
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(0..=0x1f) => return Err(self.error("has a control character in a string")),
                Some(_) => {
                    let start = self.at;
                    while !matches!(self.text.get(self.at), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                        self.at += 1;
                    }
                    text.push_str(self.utf8(start)?);
                }
                None => return Err(self.error("ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let kind = self.text.get(self.at).copied();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("has an unknown escape in a string")),
        })
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            // A character beyond the first plane is written as two halves.
            if !self.text[self.at..].starts_with(br"\u") {
                return Err(self.error("has half a surrogate pair"));
            }
            self.at += 2;
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.error("has half a surrogate pair"));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error("has half a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4);
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error("has an unknown escape in a string"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests;
