// Found by the compiler only where LibTorch's own header is not; the line below is then the build's error message.
#include <LibTorch is not set up: run `cargo xtask setup`>
