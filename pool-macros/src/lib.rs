//! The attribute macros of `pool-runtime`, which re-exports them: use them from there.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | entry points and their documentation |
//! | `signature.rs` | parse the function, and refuse what cannot be a task |
//! | `refusals.rs` | the mistakes found, each reported at its exact token |
//! | `options.rs` | what stands in the parentheses |
//! | `text.rs` | signatures and types as people write them |
//! | `types.rs` | which types may stand in a signature |
//! | `parameter.rs` | one parameter, and how it is passed |
//! | `expand.rs` | the one `quote!` |
//!
//! A macro here must never change what the function does, and never drop it: whatever is refused, the function item is
//! emitted, so that one mistake gives one message.

mod expand;
mod options;
mod parameter;
mod refusals;
mod signature;
mod text;
mod types;

use proc_macro::TokenStream;

/// Makes a function one that other processes can call.
///
/// The function stays what it was: call it, pass it to an iterator, make it `const`, recurse. Beside it stands a type
/// of the same name and visibility, and `name::call(arguments…)` makes a *call* of it, which has not run yet; a pool or
/// a process runs it.
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
/// A parameter is any type that is `Serialize` and `DeserializeOwned`, or a borrow of one: `&str`, `&[T]`, `&Path`,
/// `&Struct`. The caller lends, and the worker decodes and lends on. The result is any owned type that is `Serialize`
/// and `DeserializeOwned`, `Result` among them: its error is the task's own, beside the pool's.
///
/// Whole parameters and results of plain numbers (`&[f64]`, `Vec<u8>`, `[u32; 9]`), and of types that derive
/// `bytemuck`'s `NoUninit` and `AnyBitPattern` in such a list, are copied in bulk instead of one by one, and a lent
/// slice or string is read in the worker where it arrived.
///
/// In `call`, each parameter has the function's own name and type; one that is a pattern is called `arg` and its index.
///
/// # State
///
/// What is costly to make, such as a model or a connection, is made once in each worker by an initializer, and need not
/// be serializable. A task takes it with `#[state]`, as `&T` or `&mut T`; it is no parameter of `call`.
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
/// An initializer that returns `Result<T, E>` makes the state `T`, or fails with the text of `E`; any other type is the
/// state itself, and `()` is none. What a task names is that very type: `#[state] model: &Model` for the one above.
///
/// # Options
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the name by which the worker finds the task | `module_path!()`, `::`, the function's name |
/// | `initializer` | the function makes the state of a worker | it is a task |
/// | `timeout = "30s"` | how long a call may take, from when a worker takes it up; then its worker is killed | the pool's |
/// | `soft_timeout = "20s"` | after how long it is told to stop: see `current_job` | the pool's |
/// | `retries = 2` | how often it may be tried again after its worker was lost or killed by the time-out | the pool's |
/// | `memory = "512MiB"` | how much memory its worker may have meanwhile | the pool's |
/// | `crate = path` | where the runtime is, for a library that re-exports it | `::pool_runtime` |
///
/// A limit that is chosen for one call, as in `name::call(…).timeout(…)`, goes before the task's, and the task's before
/// that of the pool. Times are written as `"250ms"`, `"30s"` or `"1h 30m"`, sizes as `"512MiB"` (1024² bytes) or
/// `"2GB"` (1000³).
///
/// Two tasks of one name in one program are an error, raised when the first pool or process is made: it happens to
/// functions of one name inside the bodies of two functions of a module, and `name` sets them apart.
///
/// # What cannot be a task
///
/// The worker finds the function by its name and gives it copies of what the caller passed. So a task is not generic,
/// has no `self` and no lifetime parameters, is neither `unsafe`, `extern` nor (yet) `async`, takes no `&mut` but for
/// its state, and neither takes nor returns pointers, `impl Trait`, `dyn Trait`, or anything that borrows, but for a
/// whole parameter that is `&T`. Each of these is refused where it stands, and the function remains.
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
/// - A function inside an `impl` cannot be a task, even without `self`: the compiler then says that a `struct` is not
///   supported there. Put the function beside the `impl`.
/// - The type beside the function takes the function's name among types and modules. A task `resize` in a module
///   `resize` is imported with another name: `use resize::resize as resize_image;`.
/// - What a `pub` task returns must be as visible as the task.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    match signature::parse(options.into(), item.into()) {
        Ok(task) => expand::expand(&task),
        Err(refused) => refused,
    }
    .into()
}
