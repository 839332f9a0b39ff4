#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""java: compiles a program, runs it under several collectors: strings, maps, threads, compression, direct buffers."""

import programs

SOURCE = r"""
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;

public class Work {
  static String digest(byte[] bytes) throws Exception {
    byte[] hash = MessageDigest.getInstance("SHA-256").digest(bytes);
    return IntStream.range(0, 8).mapToObj(i -> String.format("%02x", hash[i])).collect(Collectors.joining());
  }

  static String work(int seed) {
    try {
      Random random = new Random(seed);
      TreeMap<String, List<Integer>> map = new TreeMap<>();
      for (int i = 0; i < 30000; i++) {
        map.computeIfAbsent("key" + random.nextInt(4000), k -> new ArrayList<>()).add(random.nextInt(100));
      }
      CRC32 sum = new CRC32();
      // Memory of the process, not of the collector.
      List<ByteBuffer> buffers = new ArrayList<>();
      for (int i = 0; i < 300; i++) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(1 + random.nextInt(60000));
        while (buffer.hasRemaining()) buffer.put((byte) (i * 31 + buffer.position()));
        buffer.flip();
        sum.update(buffer);
        if (i % 3 == 0) buffers.add(buffer);
      }
      byte[] text = map.toString().getBytes("UTF-8");
      for (int level = 1; level <= 9; level += 4) {
        Deflater deflater = new Deflater(level);
        deflater.setInput(text);
        deflater.finish();
        byte[] packed = new byte[text.length + 100];
        int length = deflater.deflate(packed);
        deflater.end();
        Inflater inflater = new Inflater();
        inflater.setInput(packed, 0, length);
        byte[] back = new byte[text.length];
        inflater.inflate(back);
        inflater.end();
        if (!Arrays.equals(text, back)) throw new Exception("another content");
      }
      return digest(text) + " " + sum.getValue();
    } catch (Exception exception) {
      throw new RuntimeException(exception);
    }
  }

  public static void main(String[] arguments) throws Exception {
    int rounds = Integer.parseInt(arguments[0]);
    ExecutorService executor = Executors.newFixedThreadPool(6);
    for (int round = 0; round < rounds; round++) {
      List<Future<String>> futures = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        int seed = round * 100 + i;
        futures.add(executor.submit(() -> work(seed)));
      }
      for (Future<String> future : futures) System.out.println(future.get());
      long threads = IntStream.range(0, 100).mapToObj(i -> {
        Thread thread = new Thread(() -> new byte[10000].hashCode());
        thread.start();
        return thread;
      }).peek(thread -> {
        try {
          thread.join();
        } catch (InterruptedException exception) {
          throw new RuntimeException(exception);
        }
      }).count();
      System.out.println("threads " + threads);
      System.gc();
    }
    executor.shutdown();
  }
}
"""


def test(stage, rounds="2"):
    java = programs.find_program("java")
    javac = programs.find_program("javac")
    stage.write("Work.java", SOURCE)
    # The compiler runs on Java, too.
    classes = []
    for tarn in (False, True):
        stage.run([javac, "Work.java"], tarn=tarn)
        with open(stage.path("Work.class"), "rb") as file:
            classes.append(file.read())
    if classes[0] != classes[1]:
        raise programs.Difference("javac writes another class than on glibc")
    for collector in ("-XX:+UseSerialGC", "-XX:+UseParallelGC", "-XX:+UseG1GC"):
        stage.compare([java, collector, "-Xmx256m", "Work", rounds])
    stage.require_witnessed("java", "javac")


if __name__ == "__main__":
    programs.main(test)
