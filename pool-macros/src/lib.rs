//! The attribute macros `#[task]`, `#[managed]` and `#[main]` of `pool-runtime`, which re-exports them: use them from there.
//!
//! Except for `lib.rs`, a file imports only from files above it in this table.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | the entry points and their documentation |
//! | `refusals.rs` | the mistakes found, each at the token that has to change |
//! | `text.rs` | signatures as users read them |
//! | `types.rs` | which types may stand in a signature |
//! | `options.rs` | the options in the parentheses |
//! | `parameter.rs` | one parameter, and how it is passed |
//! | `signature.rs` | the function as a whole |
//! | `expand.rs` | the expansion of a task |
//! | `managed.rs` | an `impl` whose functions clients may call |
//! | `proxy.rs` | its expansion |
//! | `entry.rs` | a `main` around the user's |
//!
//! A macro must never change what a function does. It emits even what it refuses, so that one mistake
//! gives one message.

mod entry;
mod expand;
mod managed;
mod options;
mod parameter;
mod proxy;
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
/// is then separate from the pool's errors. That error may also be boxed (`anyhow::Error`, `Box<dyn Error>`), an
/// `io::Error`, or a `pool_runtime::Report`: `?` converts any error type; for `anyhow::Error`, boxed errors and texts use
/// `.map_err(Report::new)`.
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
/// If an initializer returns `Result<T, E>`, the state is the `T`; on an error, the worker fails with the texts of `E` and
/// of its causes.
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
/// - neither takes nor returns pointers, `impl Trait` or `dyn Trait` (except a boxed error in its `Result`).
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

/// Makes the methods of a type callable by other processes, on an object that lives in the server of a `Manager`.
///
/// The `impl` does not change. The macro adds a *proxy*: a type with the name of this one and `Proxy` behind it, and with
/// the same methods. Each takes `&self`, and returns what the method returns as a `pool_runtime::Result`.
///
/// ```
/// use pool_runtime::{Manager, Pool, Result, enter, managed, task};
///
/// struct Counter { n: u64 }
///
/// #[managed]
/// impl Counter {
///     fn new(start: u64) -> Self {
///         Self { n: start }
///     }
///
///     /// Returns the new count.
///     fn add(&mut self, n: u64) -> u64 {
///         self.n += n;
///         self.n
///     }
///
///     fn get(&self) -> u64 {
///         self.n
///     }
/// }
///
/// #[task]
/// fn count_to(n: u64, counter: &CounterProxy) {
///     (0..n).for_each(|_| drop(counter.add(1).unwrap()));
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let manager = Manager::start()?;
///     let counter = CounterProxy::new(&manager, 5)?;
///     assert_eq!(counter.add(3)?, 8);
///
///     Pool::new(2)?.map(|n| count_to::call(n, &counter), [10, 20])?;
///     assert_eq!(counter.get()?, 38);
///     Ok(())
/// }
/// ```
///
/// # Which functions
///
/// | function of the `impl` | in the proxy |
/// |---|---|
/// | takes `&self` | the same; calls of several clients may run at once |
/// | takes `&mut self` | the same, with `&self`; each call runs alone |
/// | a constructor: without `self`, returns `Self` | takes the manager first, and returns a proxy of the new object |
/// | a constructor that returns `Result<Self, E>`, or `io::Result<Self>` and the like | the same, which returns a proxy, or that `E`, inside of the `Result` |
/// | any other without `self`, or with `#[managed(skip)]` | none: clients cannot call it |
///
/// This has nothing to do with visibility: a private method is private in the proxy, but any client that has the key of
/// the manager can call it, as another program may have a proxy in which it is public. Hide by `#[managed(skip)]` what
/// clients are not to call.
///
/// Besides, a proxy has `open`, which finds an object that was published by a name. It can be cloned, compared, sent to
/// tasks as a value, and used by several threads at once. It is as visible as the most visible of its functions.
///
/// Parameters and results are those that [`#[task]`](macro@task) may have: a parameter may be a borrow (`&str`, `&[T]`,
/// `&Struct`), and what a method returns is owned. A method that returns a `Result` does so inside of ours. The type has
/// to be `Send` and `Sync`.
///
/// A method that panics is an error for its caller, and nothing else: the object stays as the method has left it, and
/// goes on.
///
/// # Options
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the name by which the server finds the type | `module_path!()`, `::`, the type's name |
/// | `crate = path` | where the runtime is, for a library that re-exports it | `::pool_runtime` |
///
/// Two programs that share an object have its `impl` from one library, or give it one name.
///
/// # What cannot be managed
///
/// - an `impl` that is generic, of a trait, or `unsafe`, or that has no constructor;
/// - a second `impl` of the same type in the same module, as it would have the same proxy;
/// - functions that are generic, declare lifetimes, or are `async`, `unsafe` or `extern`;
/// - methods that take `self` by value;
/// - parameters and results that no task may have, `Self` among them;
/// - a function with the name `open`.
///
/// Each of the functions can be hidden by `#[managed(skip)]`.
///
/// ```compile_fail
/// # use pool_runtime::managed;
/// struct Words(Vec<String>);
///
/// #[managed]
/// impl Words {
///     fn first(&self) -> Option<&str> { // a result comes from another process, so it cannot borrow
///         self.0.first().map(String::as_str)
///     }
/// }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn managed(options: TokenStream, item: TokenStream) -> TokenStream {
    match managed::parse(options.into(), item.into()) {
        Ok(managed) => proxy::expand(&managed),
        Err(refused) => refused,
    }
    .into()
}

/// Makes this `main` the way in for workers: an attribute in place of `pool_main!`.
///
/// In a worker process, `main` is the worker's loop and never reaches the function's body. When that returns, daemonic
/// processes are terminated and the others joined. What the function returns, its attributes and its visibility stay.
/// Write it with its path, as it has the name of other crates' macros:
///
/// ```
/// use pool_runtime::{Pool, Result, task};
///
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// #[pool_runtime::main]
/// fn main() -> Result<()> {
///     assert_eq!(Pool::new(1)?.apply(double::call(21))?, 42);
///     Ok(())
/// }
/// ```
///
/// The attribute of an executor stands below it; that of tokio may stand above it, too. A worker never starts the executor.
///
/// ```ignore
/// #[pool_runtime::main]
/// #[tokio::main]
/// async fn main() -> Result<()> {
///     let doubled = Pool::new(1)?.apply_async(double::call(21)).await?;
///     Ok(())
/// }
/// ```
///
/// The option `crate = path` says where the runtime is, for a library that re-exports it.
///
/// # What it refuses
///
/// A function with another name, with parameters or with generics; and an `async fn` without the attribute of an
/// executor.
///
/// ```compile_fail
/// #[pool_runtime::main]
/// async fn main() {} // an `async fn main` needs an executor
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(options.into(), item.into()).into()
}
