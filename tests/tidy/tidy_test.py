"""Each check of tidy.py finds what it is there to find, and lets good code pass."""
import tempfile
import unittest
from pathlib import Path

import tidy


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def findings(self, check):
        return list(check(self.root))

    def test_arrows_point_down(self):
        good = [("server/vet/a.cc", "storage/blob_store.h"), ("server/hub_server.cc", "server/vet/a.h"),
                ("merge/worker/a.cc", "core/rpc/channel.h"), ("core/update/a.cc", "cairn/v1/common.pb.h"),
                ("storage/rocksdb/a.cc", "rocksdb/db.h"), ("core/base/a_test.cc", "core/base/testing/b.h")]
        bad = [("server/vet/a.cc", "server/queue/b.h"), ("server/vet/a.cc", "merge/tensor/b.h"),
               ("storage/a.cc", "server/flow/b.h"), ("merge/engine/a.cc", "core/rpc/channel.h"),
               ("client/a.cc", "torch/torch.h"), ("core/base/a.cc", "grpcpp/grpcpp.h"),
               ("core/base/a.cc", "core/base/testing/b.h"), ("server/vet/a.cc", "rocksdb/db.h"),
               ("merge/cli/a.cc", "merge/worker/b.h"), ("core/base/a.h", "absl/synchronization/mutex.h")]
        for name, target in good:
            self.assertIsNone(tidy.forbidden_include(name, target), (name, target))
        for name, target in bad:
            self.assertIsNotNone(tidy.forbidden_include(name, target), (name, target))

    def test_reads_both_kinds_of_include(self):
        self.write("core/a.cc", '#include <torch/torch.h>\n#include "server/b.h"\n#include <string>\n')
        self.assertEqual(len(self.findings(tidy.check_includes)), 2)

    def test_dead_files(self):
        self.write("core/CMakeLists.txt", "cairn_cc_library(SRCS a.cc deep/c.cc)\n"
                   "foreach(name d e)\n  cairn_cc_binary(SRCS ${name}.cc)\nendforeach()\n")
        for name in ("core/a.cc", "core/deep/c.cc", "core/d.cc", "core/aa.cc", "core/name.cc"):
            self.write(name, "")
        self.assertEqual([f.split(":")[0] for f in self.findings(tidy.check_dead_files)], ["core/aa.cc", "core/name.cc"])

    def test_lengths(self):
        body = "  f();\n" * 80
        self.write("core/a.cc", f"void F() {{\n{body}}}\n")
        self.write("core/b.cc", f"class A {{\n public:\n  void F() {{\n{'    f();' + chr(10)}  }}\n{body}}};\n")
        self.write("core/c.cc", f"constexpr int kTable[] = {{\n{body}}};\n")
        self.write("core/d.cc", "\n" * 601)
        found = self.findings(tidy.check_lengths)
        self.assertEqual([f.split(":")[0] for f in found], ["core/a.cc", "core/d.cc"])

    def test_words(self):
        self.write("core/good.cc", "// TODO(ada): faster.\nauto s = \"throw\";  // never throw\nclass Data;\n")
        self.assertEqual(self.findings(tidy.check_words), [])
        bad = ["// TODO: later", "using namespace std;", "throw 1;", "class JobManager {", "// see issue 3",
               "// /root/x", "// ../shared/a.md", "thread.detach();"]
        self.write("core/bad.cc", "\n".join(bad))
        self.assertEqual(len(self.findings(tidy.check_words)), len(bad))
        self.write("core/string_utils.h", "")
        self.assertEqual(len(self.findings(tidy.check_words)), len(bad) + 1)

    def test_guards(self):
        self.write("core/base/a.h", "#ifndef CAIRN_CORE_BASE_A_H_\n#define CAIRN_CORE_BASE_A_H_\n#endif\n")
        self.write("core/base/b.h", "#pragma once\n")
        self.assertEqual(len(self.findings(tidy.check_guards)), 1)

    def test_contract(self):
        self.write("proto/cairn/v1/a.proto", "// A.\nmessage A {\n  // B.\n  map<string, string> b = 1;\n  int64 c = 2;\n}\n"
                   "// E.\nenum E {\n  WRONG = 0;\n}\n// S.\nservice S {\n  rpc Do(A) returns (A);\n}\n")
        found = self.findings(tidy.check_contract)
        self.assertEqual(len(found), 3)  # c and Do have no comment; WRONG


if __name__ == "__main__":
    unittest.main()
