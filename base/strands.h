// Work on a bounded pool of threads, in order for each key and side by side for different keys. A volume's name is the key,
// so the state of one volume needs no lock.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace vdvs::base {

class Strands {
 public:
  /// Starts `threads` threads, called `name` in /proc.
  Strands(std::string name, std::size_t threads);
  /// Drains, then joins.
  ~Strands();
  Strands(const Strands&) = delete;
  Strands& operator=(const Strands&) = delete;

  /// Runs `work` after everything posted before under the same key. Never blocks. Thread: any.
  /// After `drain` has begun, work is dropped.
  void post(const std::string& key, std::function<void()> work);

  /// Takes no more work, and returns when what was posted has run.
  void drain();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vdvs::base
