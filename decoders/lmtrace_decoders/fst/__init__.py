"""Fast signal traces (FST, the format of GTKWave): structure, hierarchy, values by libfst in a process of its own."""
