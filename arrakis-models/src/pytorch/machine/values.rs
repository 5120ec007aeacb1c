//! What opcodes do with the values of a pickle: stack, marks, memo and containers.

use super::super::global::Global;
use super::super::pickle::{Object, Value};
use super::Machine;
use crate::error::Result;

/// Values that may wait for their container; Python writes containers in batches of a thousand.
const DEEPEST: usize = 1 << 16;
/// Containers that may be open at once.
const MOST_MARKS: usize = 256;

impl<'a> Machine<'a, '_> {
    pub(super) fn mark(&mut self) -> Result<()> {
        if self.marks.len() == MOST_MARKS {
            return Err(self.wrong(&format!("more than {MOST_MARKS} containers are open at once")));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.stack.len() == DEEPEST {
            return Err(self.wrong(&format!("more than {DEEPEST} values wait for their container")));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The last value, unless it lies before the last mark.
    pub(super) fn pop(&mut self) -> Result<Value<'a>> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= bottom => Ok(value),
            _ => Err(self.wrong("an opcode takes a value where there is none")),
        }
    }

    pub(super) fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.drain(mark..).collect()),
            None => Err(self.wrong("an opcode takes a mark where there is none")),
        }
    }

    pub(super) fn make(&mut self, object: Object<'a>) -> Result<()> {
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() - 1))
    }

    pub(super) fn tuple(&mut self, count: usize) -> Result<()> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.make(Object::Tuple(items))
    }

    pub(super) fn append(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let list = self.pop()?;
        match self.target(list) {
            Some(Object::List(list)) => list.extend(items),
            _ => return Err(self.wrong("`APPENDS` to what is no list")),
        }
        self.push(list)
    }

    pub(super) fn set(&mut self, items: &[Value<'a>]) -> Result<()> {
        let dict = self.pop()?;
        let (pairs, rest) = items.as_chunks();
        match self.target(dict) {
            Some(Object::Dict(dict)) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(self.wrong("`SETITEMS` in what is no dict, or without a value")),
        }
        self.push(dict)
    }

    fn target(&mut self, value: Value) -> Option<&mut Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get_mut(index),
            _ => None,
        }
    }

    /// Python numbers its memo from 0, or from 1, in order.
    pub(super) fn remember(&mut self, index: usize) -> Result<()> {
        let Some(&value) = self.stack.last() else { return Err(self.wrong("the memo is given nothing")) };
        if index > self.memo.len() + 1 {
            return Err(self.wrong(&format!("{index} of the memo is set before {}", self.memo.len())));
        }
        self.memo.resize(self.memo.len().max(index + 1), Value::None);
        self.memo[index] = value;
        Ok(())
    }

    pub(super) fn recall(&mut self, index: usize) -> Result<()> {
        match self.memo.get(index) {
            Some(&value) => self.push(value),
            None => Err(self.wrong(&format!("{index} of the memo was never set"))),
        }
    }

    pub(super) fn reduce(&mut self) -> Result<()> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        let (Value::Object(index), Value::Global(global)) = (arguments, called) else {
            return Err(self.wrong("`REDUCE` without a name and a tuple"));
        };
        match (global, &self.objects[index]) {
            (Global::OrderedDict, Object::Tuple(items)) if items.is_empty() => self.make(Object::Dict(Vec::new())),
            (Global::Tensor | Global::TensorOfDtype | Global::Parameter, Object::Tuple(_)) => {
                self.make(Object::Call(global, index))
            }
            _ => Err(self.wrong(&format!("`REDUCE` of {global:?} with what it does not take"))),
        }
    }

    /// Attributes of a dict, the module versions of a state dict among them, are dropped.
    pub(super) fn build(&mut self) -> Result<()> {
        let (state, object) = (self.pop()?, self.pop()?);
        match (self.target(object).is_some_and(|o| matches!(o, Object::Dict(_))), self.target(state)) {
            (true, Some(Object::Dict(_))) => self.push(object),
            _ => Err(self.wrong("`BUILD` of what is no dict")),
        }
    }
}
