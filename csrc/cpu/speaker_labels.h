#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spcl {

/// The last label of every speaker of one dialogue, whatever numbers the speakers have and however many they are.
///
/// Numbers from 0 on, which data sets use, index `of_small`. All others are in a hash table, whose memory follows
/// the number of speakers in one dialogue.
class SpeakerLabels {
 public:
  static constexpr int64_t kSmall = 64;
  int32_t of_small[kSmall];

  SpeakerLabels();
  ~SpeakerLabels();
  SpeakerLabels(const SpeakerLabels&) = delete;
  SpeakerLabels& operator=(const SpeakerLabels&) = delete;

  /// The label of a speaker of this dialogue, `unseen` at first. Valid until the next call; dialogues come one
  /// after the other, and none comes again.
  int32_t& of_other(int64_t speaker, int64_t dialogue, int32_t unseen);

 private:
  struct Entry {
    int64_t speaker;
    int64_t dialogue;  // of an earlier one: the entry is free
    int32_t label;
  };
  Entry& find(int64_t speaker, int64_t dialogue);
  void grow(int64_t dialogue);

  std::vector<Entry> entries_;  // a power of two of them, at most half in use
  int64_t dialogue_ = -1;
  size_t used_ = 0;
};

}  // namespace spcl
