//! The attribute macro `#[task]` of `pool-runtime`, which re-exports it: use it from there.
//!
//! Except for `lib.rs`, a file imports only from files above it in this table.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | the entry point and its documentation |
//! | `refusals.rs` | the mistakes found, each at the token that has to change |
//! | `text.rs` | signatures as users read them |
//! | `types.rs` | which types may stand in a signature |
//! | `options.rs` | the options in the parentheses |
//! | `parameter.rs` | one parameter, and how it is passed |
//! | `signature.rs` | the function as a whole |
//! | `expand.rs` | the expansion |
//!
//! The macro must never change what the function does. It emits even a function that it refuses, so that one mistake
//! gives one message.

mod expand;
mod options;
mod parameter;
mod refusals;
mod signature;
mod text;
mod types;

use proc_macro::TokenStream;

/// Makes a function callable in other processes.
///
/// The function itself does not change: you can still call it, pass it to an iterator, or make it `const`. The macro
/// adds a type with the same name and visibility. `name::call(arguments…)` makes a *call*, which runs once it is given
/// to a pool or a process.
///
/// ```
/// use pool_runtime::{Call, task};
///
/// /// Multiplies every number.
/// #[task]
/// fn scale(xs: &[f64], by: f64) -> Vec<f64> {
///     xs.iter().map(|x| x * by).collect()
/// }
///
/// # fn main() {
/// assert_eq!(scale(&[1.0, 2.0], 0.5), [0.5, 1.0]);
///
/// let numbers = vec![1.0, 2.0];
/// let call: Call<'_, scale> = scale::call(&numbers, 0.5);
/// assert!(call.task_name().ends_with("::scale"));
/// # }
/// ```
///
/// # Parameters and result
///
/// A parameter has a type that is `Serialize` and `DeserializeOwned`, or is a borrow of one: `&str`, `&[T]`, `&Path`,
/// `&Struct`. The result has an owned type that is `Serialize` and `DeserializeOwned`. It can be a `Result`, whose error
/// is then separate from the pool's errors.
///
/// A slice, vector or array of numbers that is a whole parameter or result (`&[f64]`, `Vec<u8>`, `[u32; 9]`) is copied
/// in bulk, not element by element. The same holds for elements of a type that derives `bytemuck`'s `NoUninit` and
/// `AnyBitPattern`. In the worker, the function reads such a borrowed slice, or a `&str`, from the memory in which it
/// arrived.
///
/// In `call`, each parameter has the same name and type as in the function. A parameter that is a pattern is called
/// `arg` followed by its index.
///
/// # State
///
/// An initializer makes what is expensive to make, such as a model or a connection, once in each worker. This *state*
/// need not be serializable. A task takes it with `#[state]`, as `&T` or `&mut T`, and `call` has no parameter for it.
///
/// ```
/// use pool_runtime::task;
///
/// struct Model { bias: f64 }
///
/// #[task(initializer)]
/// fn open_model(path: &str) -> Result<Model, std::io::Error> {
///     Ok(Model { bias: std::fs::read(path)?.len() as f64 })
/// }
///
/// #[task]
/// fn classify(#[state] model: &mut Model, image: &[u8]) -> f64 {
///     model.bias + image.len() as f64
/// }
///
/// # fn main() {
/// let (first, then) = (open_model::call("model.bin"), classify::call(&[1, 2, 3]));
/// # let _ = (first, then);
/// # }
/// ```
///
/// If an initializer returns `Result<T, E>`, the state is the `T`; on an error, the worker fails with the text of `E`.
/// A value of any other type is the state itself, and `()` means that there is none. A task must name exactly the type
/// of the state: `&Model` or `&mut Model` in this example.
///
/// # Options
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the name by which the worker finds the task | `module_path!()`, `::`, the function's name |
/// | `initializer` | the function makes the state of a worker | the function is a task |
/// | `timeout = "30s"` | how long a call may run before its worker is killed | the pool's |
/// | `soft_timeout = "20s"` | how long a call may run before it is told to stop: see `current_job` | the pool's |
/// | `retries = 2` | how often a call is retried after its worker was lost, or killed by the timeout | the pool's |
/// | `memory = "512MiB"` | how much memory the worker may use during a call | the pool's |
/// | `max_result = "1MiB"` | how many bytes the encoded result may have | the pool's |
/// | `crate = path` | where the runtime is, for a library that re-exports it | `::pool_runtime` |
///
/// A limit that is set on a call, as in `name::call(…).timeout(…)`, overrides the task's limit, which overrides the
/// pool's. Times are written as `"250ms"`, `"30s"` or `"1h 30m"`, and sizes as `"512MiB"` (1024² bytes) or `"2GB"`
/// (1000³ bytes). Of the limits, only `timeout` applies to an initializer.
///
/// Two tasks of one program must not have the same name: the first pool or process then fails to start. Functions with
/// the same name in the bodies of two functions of one module are such a case, and `name` tells them apart.
///
/// # What cannot be a task
///
/// The worker finds the function by its name, and gives it copies of what the caller passed. So a task:
///
/// - has no generic parameters, no lifetime parameters and no `self`;
/// - is not `unsafe`, not `extern` and not (yet) `async`;
/// - takes `&mut` only for its state;
/// - borrows only whole parameters (`&T`), and returns nothing that borrows;
/// - neither takes nor returns pointers, `impl Trait` or `dyn Trait`.
///
/// Each of these is a compile error at the token that has to change.
///
/// ```compile_fail
/// # use pool_runtime::task;
/// #[task]
/// fn longest(words: Option<&str>) -> usize { // use an owned type here, such as `String`
///     words.map_or(0, str::len)
/// }
/// # fn main() {}
/// ```
///
/// Other limitations:
///
/// - A function inside an `impl` cannot be a task, even without `self`. The compiler then reports that a `struct` is not
///   supported there. Move the function out of the `impl`.
/// - The added type takes the function's name among types and modules. To import a task `resize` from a module `resize`,
///   rename it: `use resize::resize as resize_image;`.
/// - The result of a `pub` task must be as visible as the task.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    match signature::parse(options.into(), item.into()) {
        Ok(task) => expand::expand(&task),
        Err(refused) => refused,
    }
    .into()
}
