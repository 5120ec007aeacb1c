//! What a pickle says, as data: objects in one list that refer to each other by number, so that nothing recurses.

use super::global::Global;
use super::machine::Machine;
use crate::cursor::Cursor;
use crate::error::Result;

/// A value of a pickle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits, little-endian.
    Long(&'a [u8]),
    /// A number that no state dict needs.
    Float,
    Text(&'a str),
    Global(Global),
    /// One of the pickle's objects, by its number.
    Object(usize),
}

/// A value that has others.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// What would be called, and the number of the tuple of its arguments.
    Call(Global, usize),
    /// The tuple that says which storage is meant, by its number.
    Storage(usize),
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle, from the cursor's position to its `STOP`.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self> {
        let (objects, root) = Machine::new(cursor).run()?;
        Ok(Self { objects, root })
    }

    pub(super) fn tuple(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn list(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.object(value)? {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a value would be the answer of, and the arguments.
    pub(super) fn call(&self, value: Value) -> Option<(Global, &[Value<'a>])> {
        match self.object(value)? {
            Object::Call(global, arguments) => Some((*global, self.tuple(Value::Object(*arguments))?)),
            _ => None,
        }
    }

    /// What a value says about the storage that it stands for.
    pub(super) fn storage(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Storage(id) => self.tuple(Value::Object(*id)),
            _ => None,
        }
    }

    /// Every storage that the pickle mentions.
    pub(super) fn storages(&self) -> impl Iterator<Item = Value<'a>> {
        let storages = self.objects.iter().enumerate().filter(|(_, object)| matches!(object, Object::Storage(_)));
        storages.map(|(index, _)| Value::Object(index))
    }

    fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }
}
