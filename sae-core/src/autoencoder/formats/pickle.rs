//! The part of Python's pickle language that PyTorch's state dicts are written in, as a machine that can do nothing else:
//! it builds a table of tensor descriptions. A name that it does not know is an error and is never looked up, no function
//! is called, no attribute set; what it holds is bounded by the length of the pickle. Writes such pickles, too.

use safetensors::tensor::Dtype;
use std::collections::HashMap;
use std::rc::Rc;

/// A tensor as the pickle describes it. The numbers are in another entry of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Number of the storage, which is its entry's name.
    pub key: Rc<str>,
    /// The type of the numbers.
    pub dtype: Dtype,
    /// First element in the storage.
    pub offset: usize,
    /// Sizes.
    pub shape: Vec<usize>,
    /// In elements.
    pub strides: Vec<usize>,
}

/// Largest size of a pickle; state dicts of autoencoders are far smaller.
const LIMIT: usize = 1 << 22;
/// Arguments of a tensor hold the tuples of its storage, shape and strides: no tuple is nested deeper.
const DEPTH: u32 = 4;

#[derive(Clone)]
enum Value {
    /// A value that does not describe a tensor.
    Other,
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<[Value]>, u32),
    /// Tensors by name; other values of a dictionary are ignored.
    Dict(Vec<(Rc<str>, Rc<Described>)>),
    Global(Global),
    Storage(Dtype, Rc<str>),
    Tensor(Rc<Described>),
}

#[derive(Clone, Copy)]
enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(Dtype),
}

/// The tensors of the dictionary in the pickle.
pub fn read(pickle: &[u8]) -> Result<Vec<(String, Described)>, String> {
    if pickle.len() > LIMIT {
        return Err(format!("a pickle of {} bytes is not a state dict", pickle.len()));
    }
    let mut machine = Machine { rest: pickle, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = pickle.len() - machine.rest.len();
        match machine.step().map_err(|e| format!("{e} (at byte {at} of the pickle)"))? {
            None => (),
            Some(Value::Dict(items)) => {
                return Ok(items.into_iter().map(|(name, t)| (name.to_string(), (*t).clone())).collect());
            }
            Some(_) => return Err("the pickle holds no state dict".into()),
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; the last one returns the result.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let [code] = self.bytes()?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.bytes::<1>()?),
            0x95 => drop(self.bytes::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b')' => self.push_tuple(Vec::new())?,
            b't' => {
                let items = self.since_mark()?;
                self.push_tuple(items)?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(code as usize - 0x84).ok_or("nothing to make a tuple of")?;
                let items = self.stack.split_off(from);
                self.push_tuple(items)?;
            }
            b'N' | 0x88 | 0x89 | b']' => self.stack.push(Value::Other),
            b'G' => {
                self.bytes::<8>()?;
                self.stack.push(Value::Other);
            }
            b'J' => self.push_int(i32::from_le_bytes)?,
            b'K' => self.push_int(u8::from_le_bytes)?,
            b'M' => self.push_int(u16::from_le_bytes)?,
            0x8a => {
                let [length] = self.bytes()?;
                let bytes = self.take(length as usize)?;
                let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { -1i64 } else { 0 };
                let int = bytes.iter().rev().fold(sign, |v, b| v << 8 | *b as i64);
                self.stack.push(if bytes.len() <= 8 { Value::Int(int) } else { Value::Other });
            }
            b'X' => self.push_text(u32::from_le_bytes)?,
            0x8c => self.push_text(u8::from_le_bytes)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(global(module, name)?);
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.stack.push(global(&module, &name)?),
                _ => return Err("a global without a name".into()),
            },
            b'q' => self.remember(u8::from_le_bytes)?,
            b'r' => self.remember(u32::from_le_bytes)?,
            0x94 => self.store(self.memo.len() as u32)?,
            b'h' => self.recall(u8::from_le_bytes)?,
            b'j' => self.recall(u32::from_le_bytes)?,
            b'Q' => {
                let storage = storage(&self.pop()?)?;
                self.stack.push(storage);
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.stack.push(call(&function, &arguments)?);
            }
            // The state of an object, such as `_metadata` of a state dict, is ignored.
            b'b' => drop(self.pop()?),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert([key, value].into())?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(items)?;
            }
            b'a' => drop(self.pop()?),
            b'e' => drop(self.since_mark()?),
            other => return Err(format!("the instruction 0x{other:02x} is not one that a state dict needs")),
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("the pickle is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "the pickle is cut off".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|b| *b == b'\n').ok_or("the pickle is cut off")?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "a global's name is not text".into())
    }

    fn pop(&mut self) -> Result<Value, String> {
        // What lies below the last mark belongs to what is being built there.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("an instruction without its operand".into());
        }
        self.stack.pop().ok_or_else(|| "an instruction without its operand".into())
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().filter(|m| *m <= self.stack.len()).ok_or("an end without a beginning")?;
        Ok(self.stack.split_off(mark))
    }

    fn push_int<const N: usize, T: Into<i64>>(&mut self, decode: fn([u8; N]) -> T) -> Result<(), String> {
        let value = decode(self.bytes()?).into();
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn push_text<const N: usize, T: Into<u32>>(&mut self, decode: fn([u8; N]) -> T) -> Result<(), String> {
        let length: u32 = decode(self.bytes()?).into();
        let text = std::str::from_utf8(self.take(length as usize)?).map_err(|_| "a text that is not UTF-8")?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> Result<(), String> {
        let depth =
            items.iter().map(|v| if let Value::Tuple(_, depth) = v { *depth } else { 0 }).max().unwrap_or(0) + 1;
        if depth > DEPTH {
            return Err("tuples nested too deep".into());
        }
        self.stack.push(Value::Tuple(items.into(), depth));
        Ok(())
    }

    fn remember<const N: usize, T: Into<u32>>(&mut self, decode: fn([u8; N]) -> T) -> Result<(), String> {
        let number = decode(self.bytes()?).into();
        self.store(number)
    }

    fn store(&mut self, number: u32) -> Result<(), String> {
        let value = match self.stack.last().ok_or("nothing to remember")? {
            // Still being filled: a state dict is never referred to again, and a copy would not be the same object.
            Value::Dict(_) => Value::Other,
            value => value.clone(),
        };
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall<const N: usize, T: Into<u32>>(&mut self, decode: fn([u8; N]) -> T) -> Result<(), String> {
        let number = decode(self.bytes()?).into();
        let value = self.memo.get(&number).ok_or("something that was never remembered")?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn insert(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::Dict(dict)) = self.stack.last_mut() else { return Err("items without a dictionary".into()) };
        for pair in items.chunks(2) {
            if let [Value::Text(name), Value::Tensor(tensor)] = pair {
                dict.push((name.clone(), tensor.clone()));
            }
        }
        Ok(())
    }
}

fn global(module: &str, name: &str) -> Result<Value, String> {
    Ok(Value::Global(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
        ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
        ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Dtype::BF16),
        ("torch", "LongStorage") => Global::Storage(Dtype::I64),
        ("torch", "IntStorage") => Global::Storage(Dtype::I32),
        _ => return Err(format!("the pickle asks for {module}.{name}, which no state dict needs: refused")),
    }))
}

/// `('storage', type, key, device, elements)`.
fn storage(id: &Value) -> Result<Value, String> {
    if let Value::Tuple(items, _) = id
        && let [Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(key), ..] = &items[..]
        && **kind == *"storage"
    {
        return Ok(Value::Storage(*dtype, key.clone()));
    }
    Err("a reference to something that is not a tensor's storage".into())
}

fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Global(function), Value::Tuple(arguments, _)) = (function, arguments) else {
        return Err("a call of something that is no function".into());
    };
    match (function, &arguments[..]) {
        (Global::OrderedDict, _) => Ok(Value::Dict(Vec::new())),
        (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        (Global::RebuildTensor, [Value::Storage(dtype, key), Value::Int(offset), shape, strides, ..]) => {
            let offset = usize::try_from(*offset).map_err(|_| "a tensor that begins before its storage")?;
            let (shape, strides) = (sizes(shape)?, sizes(strides)?);
            Ok(Value::Tensor(Rc::new(Described { key: key.clone(), dtype: *dtype, offset, shape, strides })))
        }
        _ => Err("a tensor whose description is not understood".into()),
    }
}

/// The pickle of a state dict of `f32` tensors with these names and shapes, in row-major order. The storage of tensor `n` is called `n`.
pub fn write(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (key, (name, shape)) in tensors.iter().enumerate() {
        let count = shape.iter().product();
        let strides: Vec<usize> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        write_text(&mut out, name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        write_text(&mut out, "storage");
        out.extend_from_slice(b"ctorch\nFloatStorage\n");
        write_text(&mut out, &key.to_string());
        write_text(&mut out, "cpu");
        write_int(&mut out, count);
        out.extend_from_slice(b"tQ");
        write_int(&mut out, 0);
        for sizes in [shape, &strides[..]] {
            out.push(b'(');
            sizes.iter().for_each(|size| write_int(&mut out, *size));
            out.push(b't');
        }
        // No gradients, and no hooks.
        out.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend_from_slice(b"u.");
    out
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// An integer of eight bytes, of which the highest bit is clear.
fn write_int(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&[0x8a, 8]);
    out.extend_from_slice(&(value as u64).to_le_bytes());
}

fn sizes(value: &Value) -> Result<Vec<usize>, String> {
    let Value::Tuple(items, _) = value else { return Err("a shape that is no tuple".into()) };
    let size = |v: &Value| if let Value::Int(n) = v { usize::try_from(*n).ok() } else { None };
    items.iter().map(|v| size(v).ok_or_else(|| "a shape that is not made of numbers".to_string())).collect()
}
