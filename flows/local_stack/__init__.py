"""`layerprint stack`: object store, Ray and Prefect as processes of one machine."""
