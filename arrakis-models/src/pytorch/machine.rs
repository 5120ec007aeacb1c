//! The machine that reads a pickle: what the pickle would call is written down and never called.
//!
//! It knows the opcodes that Python writes for a state dict (protocols 2 to 5) and refuses the others by name. Each
//! byte of a pickle costs at most 200 bytes of memory, and a pickle has at most 16 MiB.

mod values;

use super::global::Global;
use super::opcode;
use super::pickle::{Object, Value};
use crate::cursor::Cursor;
use crate::error::{Error, Result};

/// Bytes that a pickle may have; a tensor takes about 200.
const LONGEST: usize = 16 << 20;

/// A pickle that is being read.
pub(super) struct Machine<'a, 'c> {
    cursor: &'c mut Cursor<'a>,
    stack: Vec<Value<'a>>,
    /// Where the open containers begin in the stack.
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a, 'c> Machine<'a, 'c> {
    pub(super) fn new(cursor: &'c mut Cursor<'a>) -> Self {
        Self { cursor, stack: Vec::new(), marks: Vec::new(), memo: Vec::new(), objects: Vec::new() }
    }

    /// Reads to `STOP`; gives every object and the value that is left.
    pub(super) fn run(mut self) -> Result<(Vec<Object<'a>>, Value<'a>)> {
        let start = self.cursor.position();
        loop {
            let at = self.cursor.position();
            if at - start >= LONGEST {
                return Err(self.cursor.damaged(format!("a pickle of more than {LONGEST} bytes")));
            }
            let opcode = self.cursor.u8("the next opcode")?;
            if opcode == b'.' {
                let root = self.pop()?;
                let left = self.stack.len() + self.marks.len();
                if left > 0 {
                    return Err(self.wrong(&format!("`STOP` leaves {left} values")));
                }
                return Ok((self.objects, root));
            }
            self.step(opcode, at)?;
        }
    }

    fn step(&mut self, opcode: u8, at: usize) -> Result<()> {
        match opcode {
            b'(' => self.mark(),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88)),
            b'J' => self.integer(|cursor| Ok(i32::from_le_bytes(cursor.array("an integer")?).into())),
            b'K' => self.integer(|cursor| Ok(cursor.u8("an integer")?.into())),
            b'M' => self.integer(|cursor| Ok(cursor.u16("an integer")?.into())),
            0x8a => self.long(),
            b'G' => {
                self.cursor.bytes(8, "a float")?;
                self.push(Value::Float)
            }
            b'X' | b'T' => self.text(|cursor| Ok(cursor.u32("the length of a text")?.into())),
            0x8c | b'U' => self.text(|cursor| Ok(cursor.u8("the length of a text")?.into())),
            0x8d => self.text(|cursor| cursor.u64("the length of a text")),
            b')' => self.make(Object::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84)),
            b't' => {
                let items = self.since_mark()?;
                self.make(Object::Tuple(items))
            }
            b']' => self.make(Object::List(Vec::new())),
            b'}' => self.make(Object::Dict(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)
            }
            b'q' => {
                let index = self.cursor.u8("a number of the memo")?;
                self.remember(index.into())
            }
            b'r' => {
                let index = self.cursor.u32("a number of the memo")?;
                self.remember(index as usize)
            }
            0x94 => self.remember(self.memo.len()),
            b'h' => {
                let index = self.cursor.u8("a number of the memo")?;
                self.recall(index.into())
            }
            b'j' => {
                let index = self.cursor.u32("a number of the memo")?;
                self.recall(index as usize)
            }
            b'c' => {
                let (module, name) = (self.cursor.line("a module")?, self.cursor.line("a name")?);
                let global = self.global(module, name)?;
                self.push(global)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    let global = self.global(module, name)?;
                    self.push(global)
                }
                _ => Err(self.wrong("`STACK_GLOBAL` without two texts")),
            },
            b'i' => {
                let (module, name) = (self.cursor.line("a module")?, self.cursor.line("a name")?);
                self.global(module, name)?;
                Err(self.unsupported(opcode, at))
            }
            b'R' => self.reduce(),
            b'b' => self.build(),
            b'Q' => match self.pop()? {
                Value::Object(id) if matches!(self.objects[id], Object::Tuple(_)) => self.make(Object::Storage(id)),
                _ => Err(self.wrong("`BINPERSID` without a tuple")),
            },
            0x80 => match self.cursor.u8("the protocol")? {
                2..=5 => Ok(()),
                version => Err(Error::Unsupported {
                    path: self.cursor.path().to_owned(),
                    what: format!("pickle protocol {version}"),
                }),
            },
            0x95 => self.cursor.u64("the length of a frame").map(drop),
            _ => Err(self.unsupported(opcode, at)),
        }
    }

    fn integer(&mut self, read: impl FnOnce(&mut Cursor<'a>) -> Result<i64>) -> Result<()> {
        let value = read(self.cursor)?;
        self.push(Value::Int(value))
    }

    /// A whole number of up to 255 bytes in two's complement.
    fn long(&mut self) -> Result<()> {
        let length = self.cursor.u8("the length of an integer")?;
        let bytes = self.cursor.bytes(length.into(), "an integer")?;
        if bytes.len() > 8 {
            return self.push(Value::Long(bytes));
        }
        let sign = if bytes.last().is_some_and(|last| last >> 7 == 1) { 0xff } else { 0 };
        let mut whole = [sign; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, length: impl FnOnce(&mut Cursor<'a>) -> Result<u64>) -> Result<()> {
        let length = length(self.cursor)?;
        let text = self.cursor.text_of(length, "a text")?;
        self.push(Value::Text(text))
    }

    fn global(&self, module: &str, name: &str) -> Result<Value<'a>> {
        Global::named(module, name).map(Value::Global).ok_or_else(|| Error::ForeignGlobal {
            path: self.cursor.path().to_owned(),
            global: format!("{module}.{name}"),
        })
    }

    fn wrong(&self, what: &str) -> Error {
        self.cursor.damaged(format!("{what}, before byte {}", self.cursor.position()))
    }

    fn unsupported(&self, opcode: u8, at: usize) -> Error {
        let what = format!("opcode {} at byte {at} of a pickle", opcode::name(opcode));
        Error::Unsupported { path: self.cursor.path().to_owned(), what }
    }
}
