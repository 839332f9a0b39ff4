#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""povray: a scene with hundreds of objects, and examples of its own where they are installed, parsed and rendered by
several threads; every pixel as on glibc.

povray deletes objects through base classes without a virtual destructor, so it frees by wrong sizes.
"""

import glob
import os

import programs

EXAMPLES = ("biscuit", "landscape")
SCENE = """
#version 3.7;
global_settings { assumed_gamma 1.0 }
camera { location <0, 3, -7> look_at <0, 1, 0> }
light_source { <10, 10, -10> color rgb 1 }
#declare Wood = texture { pigment { wood color_map { [0 rgb <0.6, 0.3, 0.1>] [1 rgb <0.3, 0.1, 0>] } turbulence 0.1 } }
plane { y, 0 pigment { checker rgb <1, 0, 0>, rgb 1 } finish { reflection 0.2 } }
#declare Count = 0;
union {
  #while (Count < 300)
    sphere { <3 * sin(Count), 0.3 + mod(Count, 10) / 4, 3 * cos(Count * 1.3)>, 0.12
             pigment { rgb <mod(Count, 7) / 7, mod(Count, 5) / 5, mod(Count, 3) / 3> } }
    #declare Count = Count + 1;
  #end
}
difference { box { <-1, 0, -1>, <1, 2, 1> } sphere { <0, 1, 0>, 1.25 } texture { Wood } }
text { ttf "timrom.ttf" "tarn" 0.2, 0 pigment { granite } translate <-1, 2.2, -1> }
isosurface { function { x * x + y * y + z * z - 0.2 + sin(10 * x) * 0.05 } contained_by { sphere { 0, 1 } } translate <2, 1, -2> }
"""


def pixels(path):
    """The content of a file in the format PPM without its comments, which have the time in them."""
    with open(path, "rb") as file:
        data = file.read()
    while (start := data.find(b"\n#", 0, 1000)) >= 0:
        data = data[:start] + data[data.index(b"\n", start + 1) :]
    return data


def test(stage):
    povray = programs.find_program("povray")
    found = {os.path.basename(path): path for path in glob.glob("/usr/share/doc/povray/examples/advanced/*.pov")}
    scenes = [stage.write("scene.pov", SCENE)]
    scenes += [found[name + ".pov"] for name in EXAMPLES if name + ".pov" in found]
    for scene in scenes:
        pictures = []
        for tarn in (False, True):
            picture = stage.path("tarn.ppm" if tarn else "glibc.ppm")
            stage.run([povray, f"+I{scene}", f"+O{picture}", "+FP", "-D", "+W200", "+H150", "+A0.3", "+WT4"], tarn=tarn)
            pictures.append(pixels(picture))
        if pictures[0] != pictures[1]:
            raise programs.Difference(f"the pictures of {scene} differ")
    stage.require_witnessed("povray")


if __name__ == "__main__":
    programs.main(test)
