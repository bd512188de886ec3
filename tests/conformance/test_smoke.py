async def test_smoke(kube, namespace):
    from kubernaut_ray.kube import resources
    print(await kube.get(resources.NAMESPACE, namespace))
